// Package logs reads container logs in the CRI format, through rotations, and follows them as they grow.
//
// A log is a series of files: the current one and, beside it, rotated ones whose names continue its name and sort by
// age. A follower keeps the file it reads open; when the file has been rotated away it reads it to its end and goes on
// with the next, so no line that was kept is lost. It sleeps until the kernel says that the folder has changed.
package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// maxRecord bounds one record; the writer cuts lines at 16 KiB.
const maxRecord = 1 << 20

// endCheck is how often a follower asks whether the container still runs, in case nothing is logged any more.
const endCheck = 500 * time.Millisecond

// Options says which part of a log is wanted.
type Options struct {
	Follow     bool
	Tail       int64     // last records; negative: all
	Since      time.Time // zero: from the beginning
	Timestamps bool
	Limit      int64       // bytes; 0: none
	Running    func() bool // whether more may come; used by Follow
}

// Read writes the log at path to stdout and stderr, either of which may be nil to leave it out. It returns nil when
// all has been written, the limit is reached, or a followed container has ended; ctx's error when ctx ends first.
func Read(ctx context.Context, path string, o Options, stdout, stderr io.Writer) error {
	r := &reader{path: path, opts: o, out: map[string]io.Writer{"stdout": stdout, "stderr": stderr}, left: o.Limit}
	if o.Follow {
		w, err := fsnotify.NewWatcher()
		if err != nil {
			return fmt.Errorf("follow %s: %w", path, err)
		}
		defer w.Close()
		if err := w.Add(filepath.Dir(path)); err != nil {
			return fmt.Errorf("follow %s: %w", path, err)
		}
		r.changes, r.troubles = w.Events, w.Errors
	}
	err := r.run(ctx)
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

var errLimit = errors.New("limit reached")

// reader is one Read under way.
type reader struct {
	path     string
	opts     Options
	out      map[string]io.Writer // by stream
	left     int64                // bytes until the limit
	changes  <-chan fsnotify.Event
	troubles <-chan error // a lost event is made up for by the next look
	inside   bool         // the last record written was partial: no time stamp before the next
}

func (r *reader) run(ctx context.Context) error {
	f, err := r.begin()
	if err != nil {
		return err
	}
	for f != nil {
		next, err := r.file(ctx, f)
		f.Close()
		if err != nil {
			return err
		}
		f = next
	}
	return nil
}

// begin opens the file in which the wanted part starts, at the right place. A name may mean another file by the time it
// is opened, so it is looked at again.
func (r *reader) begin() (*os.File, error) {
	for {
		names, err := files(r.path)
		if err != nil {
			return nil, err
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("log %s: %w", r.path, os.ErrNotExist)
		}
		start, offset := 0, int64(0)
		if r.opts.Tail >= 0 {
			start, offset, err = tail(names, r.opts.Tail)
		}
		var f *os.File
		if err == nil {
			f, err = os.Open(names[start])
		}
		now, again := files(r.path)
		switch {
		case again != nil:
			return f, again
		case !slices.Equal(names, now):
			if f != nil {
				f.Close()
			}
			continue
		case err != nil:
			return nil, err
		}
		_, err = f.Seek(offset, io.SeekStart)
		return f, err
	}
}

// after opens the file that follows f; nil when there is none, or none yet: between the two steps of a rotation there is
// no current file. A list that a rotation has made wrong is made again.
func (r *reader) after(f *os.File) (*os.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	for missed := 0; ; {
		names, err := files(r.path)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(names, func(n string) bool {
			have, err := os.Stat(n)
			return err == nil && os.SameFile(have, info)
		})
		if at < 0 && missed < 3 {
			missed++ // renamed just now; or removed as too old: then go on with the oldest there is
			continue
		}
		if at+1 >= len(names) {
			return nil, nil
		}
		g, err := os.Open(names[at+1])
		if now, again := files(r.path); again == nil && slices.Equal(names, now) {
			return g, err
		}
		if g != nil {
			g.Close() // the name may mean a later file by now
		}
	}
}

// file writes one file to its end and returns the one that follows, nil when there is none. When following, the end has
// come once another file follows or the container has ended.
func (r *reader) file(ctx context.Context, f *os.File) (*os.File, error) {
	in := bufio.NewReaderSize(f, 64<<10)
	var partial []byte
	last := !r.opts.Follow
	for {
		line, err := in.ReadBytes('\n')
		if len(partial) > 0 {
			line = append(partial, line...)
			partial = nil
		}
		switch {
		case err == nil:
			if err := r.record(line); err != nil {
				return nil, err
			}
		case !errors.Is(err, io.EOF):
			return nil, fmt.Errorf("read log: %w", err)
		case len(line) > maxRecord:
			return nil, fmt.Errorf("read log: a record of more than %d bytes", maxRecord)
		default:
			partial = line
			next, err := r.after(f)
			if err != nil || last || next != nil && drained(f, in) {
				return next, err
			}
			if next != nil {
				_ = next.Close() // what came just before the rotation is read first
				continue
			}
			if last, err = r.wait(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// drained says whether everything of f has been read.
func drained(f *os.File, in *bufio.Reader) bool {
	info, err := f.Stat()
	if err != nil {
		return true
	}
	at, err := f.Seek(0, io.SeekCurrent)
	return err != nil || at-int64(in.Buffered()) >= info.Size()
}

// wait sleeps until the log may have grown. It says whether the container has ended, so that what is there now is all.
func (r *reader) wait(ctx context.Context) (last bool, err error) {
	ended := r.opts.Running != nil && !r.opts.Running()
	if ended {
		return true, nil
	}
	timer := time.NewTimer(endCheck)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-timer.C:
	case <-r.changes:
	case <-r.troubles: //nolint:errcheck // a lost event is made up for by the next look
	}
	return false, nil
}

// record writes one record if it is wanted.
func (r *reader) record(line []byte) error {
	when, stream, full, text, ok := parse(line)
	if !ok {
		return nil // a torn record, as after a power cut
	}
	w := r.out[stream]
	if w == nil || !r.opts.Since.IsZero() && when.Before(r.opts.Since) {
		return nil
	}
	if r.opts.Timestamps && !r.inside {
		stamp, _, _ := bytes.Cut(line, []byte(" "))
		if err := r.write(w, append(append([]byte(nil), stamp...), ' ')); err != nil {
			return err
		}
	}
	r.inside = !full
	if full {
		text = append(append([]byte(nil), text...), '\n')
	}
	return r.write(w, text)
}

func (r *reader) write(w io.Writer, data []byte) error {
	if r.opts.Limit > 0 && int64(len(data)) >= r.left {
		if _, err := w.Write(data[:r.left]); err != nil {
			return err
		}
		return errLimit
	}
	r.left -= int64(len(data))
	_, err := w.Write(data)
	return err
}

// parse takes a record apart: time, stream, whether it ends its line, text without the newline.
func parse(line []byte) (when time.Time, stream string, full bool, text []byte, ok bool) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	parts := bytes.SplitN(line, []byte(" "), 4)
	if len(parts) < 3 {
		return when, "", false, nil, false
	}
	when, err := time.Parse(time.RFC3339Nano, string(parts[0]))
	if err != nil {
		return when, "", false, nil, false
	}
	if len(parts) == 4 {
		text = parts[3]
	}
	tag, _, _ := bytes.Cut(parts[2], []byte(":"))
	return when, string(parts[1]), string(tag) == "F", text, true
}
