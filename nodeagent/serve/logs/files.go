package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// files lists the files of a log that exist, oldest first, the current one last. A folder that is read while a file in
// it is renamed may show that file twice or not at all, so it is read until it looks the same twice.
func files(path string) ([]string, error) {
	before, err := list(path)
	for err == nil {
		var now []string
		if now, err = list(path); slices.Equal(before, now) {
			break
		}
		before = now
	}
	return before, err
}

func list(path string) ([]string, error) {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("log %s: %w", path, err)
	}
	var out []string
	current := false
	for _, e := range entries {
		switch {
		case e.Name() == base:
			current = true
		case strings.HasPrefix(e.Name(), base+".") && !strings.HasSuffix(e.Name(), ".gz") && !strings.HasSuffix(e.Name(), ".tmp"):
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(out)
	if current {
		out = append(out, path)
	}
	return out, nil
}

// tail finds where the last n records begin: which of the files, and where in it.
func tail(names []string, n int64) (file int, offset int64, err error) {
	for i, name := range slices.Backward(names) {
		offset, found, err := tailOf(name, n)
		if err != nil {
			return 0, 0, err
		}
		if n -= found; n <= 0 || i == 0 {
			return i, offset, nil
		}
	}
	return 0, 0, nil
}

// tailOf returns the offset of the last n records of a file, and how many there are from there.
func tailOf(name string, n int64) (offset, found int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	if n == 0 {
		return size, 0, nil
	}
	buf := make([]byte, 16<<10)
	for at := size; at > 0; {
		from := max(at-int64(len(buf)), 0)
		chunk := buf[:at-from]
		if _, err := f.ReadAt(chunk, from); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for end := len(chunk); ; {
			i := bytes.LastIndexByte(chunk[:end], '\n')
			if i < 0 {
				break
			}
			end = i
			if from+int64(i) == size-1 {
				continue // the newline that ends the file
			}
			if found++; found == n {
				return from + int64(i) + 1, found, nil
			}
		}
		at = from
	}
	if size > 0 {
		found++
	}
	return 0, found, nil
}

// Tail returns the text of the last lines of a log, at most maxBytes of it: its end.
func Tail(path string, lines, maxBytes int64) (string, error) {
	var out bytes.Buffer
	if err := Read(context.Background(), path, Options{Tail: lines}, &out, &out); err != nil {
		return "", err
	}
	text := out.Bytes()
	if int64(len(text)) > maxBytes {
		text = text[int64(len(text))-maxBytes:]
	}
	return string(text), nil
}
