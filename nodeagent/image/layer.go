package image

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// source is an image that is about to come in.
type source struct {
	id     string // "sha256:..." of config
	digest string // of the manifest; may be empty
	config []byte
	layers []opener // lowest first; the streams may be compressed
}

type opener func(ctx context.Context) (io.ReadCloser, error)

// addLayers unpacks those layers that the store lacks, some at a time, and returns their sizes' sum and their digests.
func (s *Store) addLayers(ctx context.Context, ids []v1.Hash, open []opener) (int64, []string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	digests, sizes, errs := make([]string, len(ids)), make([]int64, len(ids)), make([]error, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		if id.Algorithm != "sha256" || len(id.Hex) != 64 {
			return 0, nil, fmt.Errorf("layer %s: not a sha256 digest", id)
		}
		digests[i] = id.String()
		wg.Go(func() {
			for again := true; again; {
				sizes[i], errs[i] = s.layers.do(ctx, digests[i], func(ctx context.Context) (int64, error) {
					return s.addLayer(ctx, digests[i], open[i])
				})
				// Whoever fetched it for several images gave up; then it is ours to fetch.
				again = errors.Is(errs[i], context.Canceled) && ctx.Err() == nil
			}
			if errs[i] != nil {
				errs[i] = fmt.Errorf("layer %s: %w", digests[i], errs[i])
				cancel()
			}
		})
	}
	wg.Wait()
	var sum int64
	for _, n := range sizes {
		sum += n
	}
	return sum, digests, firstCause(errs)
}

// firstCause prefers the error that made the others give up.
func firstCause(errs []error) error {
	var first error
	for _, err := range errs {
		if err != nil && (first == nil || errors.Is(first, context.Canceled)) {
			first = err
		}
	}
	return first
}

// addLayer unpacks one layer unless it is there, and returns its size in bytes.
func (s *Store) addLayer(ctx context.Context, digest string, open opener) (int64, error) {
	final := filepath.Dir(s.layerDir(digest))
	if n, err := readSize(final); err == nil {
		return n, nil
	}
	select {
	case s.work <- struct{}{}:
		defer func() { <-s.work }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	tmp, done, err := s.tempDir()
	if err != nil {
		return 0, err
	}
	defer done()
	r, err := open(ctx)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	plain, _, err := decompress(r)
	if err != nil {
		return 0, err
	}
	defer plain.Close()

	dir := filepath.Join(tmp, "layer")
	if err := os.MkdirAll(filepath.Join(dir, "fs"), 0o755); err != nil {
		return 0, err
	}
	hash := sha256.New()
	tee := io.TeeReader(&contextReader{ctx, plain}, hash)
	n, err := unpack(tee, filepath.Join(dir, "fs"))
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(io.Discard, tee); err != nil { // padding behind the archive's end counts for the digest
		return 0, err
	}
	if got := "sha256:" + hex.EncodeToString(hash.Sum(nil)); got != digest {
		return 0, fmt.Errorf("content has digest %s: damaged or tampered with", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "size"), []byte(strconv.FormatInt(n, 10)), 0o600); err != nil {
		return 0, err
	}
	return n, publish(dir, final)
}

// publish flushes an unpacked layer to disk and gives it its final name.
func publish(dir, final string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	// One flush of the file system instead of one for each of thousands of files.
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("flush to disk: %w", err)
	}
	err = os.Rename(dir, final)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return nil // another process was faster
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(final))
}

func readSize(layer string) (int64, error) {
	b, err := os.ReadFile(filepath.Join(layer, "size"))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// decompress recognizes gzip and zstd by their first bytes and says whether r was packed; anything else passes as it is.
func decompress(r io.Reader) (plain io.ReadCloser, packed bool, err error) {
	b := bufio.NewReaderSize(r, 64<<10)
	magic, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	switch {
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		z, err := gzip.NewReader(b)
		return z, true, err
	case string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, true, err
		}
		return z.IOReadCloser(), true, nil
	}
	return io.NopCloser(b), false, nil
}

// contextReader ends reading when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
