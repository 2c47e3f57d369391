// Package crilog writes what containers print in the format that log collectors and `kubectl logs` read from
// /var/log/pods: `<RFC 3339 time> <stdout|stderr> <F|P> <text>`, one record a line, P marking a piece of a longer line.
// A file never grows past its limit: the record that would cross it starts a new file, and the old one is kept beside
// it under a name with the time of the change. A disk that refuses to be written loses records, never the container.
package crilog

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Defaults of Options, those of upstream's kubelet.
const (
	DefaultMaxBytes = 10 << 20
	DefaultMaxFiles = 5
)

// maxText is the longest text of one record, containerd's.
const maxText = 16 << 10

// stamp is RFC 3339 with all nine digits, so that records sort as text.
const stamp = "2006-01-02T15:04:05.000000000Z07:00"

// Options say where a log goes and when it is rotated.
type Options struct {
	Path     string
	MaxBytes int64            // 0: DefaultMaxBytes
	MaxFiles int              // the current one included; 0: DefaultMaxFiles
	Now      func() time.Time // nil: time.Now
}

// Log is one container's log, shared by its streams.
type Log struct {
	opts Options

	mu   sync.Mutex // guards what follows
	file *os.File   // nil after a failed rotation, until the next write tries again
	size int64
	lost int64 // records that could not be written
}

// Open makes the file and its folder, or goes on after what is there.
func Open(o Options) (*Log, error) {
	o.MaxBytes = cmp.Or(o.MaxBytes, DefaultMaxBytes)
	o.MaxFiles = cmp.Or(o.MaxFiles, DefaultMaxFiles)
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o755); err != nil {
		return nil, fmt.Errorf("container log: %w", err)
	}
	l := &Log{opts: o}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Log) open() error {
	f, err := os.OpenFile(l.opts.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("container log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("container log: %w", err)
	}
	l.file, l.size = f, st.Size()
	return nil
}

// Close ends the log. It returns how many records were lost.
func (l *Log) Close() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
	return l.lost
}

// Stream returns a writer for one stream of the container, "stdout" or "stderr". Its Close writes a last line that has
// no newline. One goroutine at a time may use it.
func (l *Log) Stream(name string) *Stream { return &Stream{log: l, name: name} }

// Stream cuts what is written to it into records.
type Stream struct {
	log     *Log
	name    string
	pending []byte // an unfinished line, shorter than maxText
	out     []byte // records of one Write, kept to be used again
	ends    []int  // where each of them ends
}

// Write never fails: see the package comment.
func (s *Stream) Write(p []byte) (int, error) {
	n, now := len(p), s.log.opts.Now()
	s.out, s.ends = s.out[:0], s.ends[:0]
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		room := maxText - len(s.pending)
		switch {
		case i >= 0 && i <= room:
			s.record(now, "F", p[:i])
			p = p[i+1:]
		case len(p) >= room:
			s.record(now, "P", p[:room])
			p = p[room:]
		default:
			s.pending = append(s.pending, p...)
			p = nil
		}
	}
	s.log.write(s.out, s.ends, now)
	return n, nil
}

// record adds one record with the pending text and more to s.out.
func (s *Stream) record(now time.Time, tag string, more []byte) {
	s.out = now.UTC().AppendFormat(s.out, stamp)
	s.out = append(s.out, ' ')
	s.out = append(s.out, s.name...)
	s.out = append(s.out, ' ')
	s.out = append(s.out, tag...)
	s.out = append(s.out, ' ')
	s.out = append(s.out, s.pending...)
	s.out = append(s.out, more...)
	s.out = append(s.out, '\n')
	s.ends = append(s.ends, len(s.out))
	s.pending = s.pending[:0]
}

// Close writes what is left of an unfinished line, marked as partial.
func (s *Stream) Close() error {
	if len(s.pending) == 0 {
		return nil
	}
	now := s.log.opts.Now()
	s.out, s.ends = s.out[:0], s.ends[:0]
	s.record(now, "P", nil)
	s.log.write(s.out, s.ends, now)
	return nil
}

// write appends records, as many at a time as fit in the current file. ends holds the end of each.
func (l *Log) write(records []byte, ends []int, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := 0
	for len(ends) > 0 {
		fit := 0
		for fit < len(ends) && l.size+int64(ends[fit]-from) <= l.opts.MaxBytes {
			fit++
		}
		if fit == 0 && l.size > 0 || l.file == nil {
			if err := l.rotate(now); err != nil {
				l.lost += int64(len(ends))
				return
			}
			continue
		}
		fit = max(fit, 1) // a record longer than a whole file gets one to itself
		n, err := l.file.Write(records[from:ends[fit-1]])
		l.size += int64(n)
		if err != nil {
			l.lost += int64(fit)
		}
		from, ends = ends[fit-1], ends[fit:]
	}
}

// rotate puts the current file aside and starts a new one. Called with l.mu held.
func (l *Log) rotate(now time.Time) error {
	if l.file != nil {
		l.file.Close()
		l.file = nil
		if err := os.Rename(l.opts.Path, l.aside(now)); err != nil && !os.IsNotExist(err) {
			// Better to start over than to grow without end.
			if err := os.Truncate(l.opts.Path, 0); err != nil {
				return err
			}
		}
		l.removeOld()
	}
	return l.open()
}

// aside is a name for a full file that sorts after those of all before it.
func (l *Log) aside(now time.Time) string {
	for {
		name := l.opts.Path + "." + now.UTC().Format("20060102-150405.000000000")
		if _, err := os.Lstat(name); err != nil {
			return name
		}
		now = now.Add(time.Nanosecond) // several files were filled in the same instant
	}
}

// removeOld deletes the oldest rotated files beyond the number to keep.
func (l *Log) removeOld() {
	dir, base := filepath.Split(l.opts.Path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	var old []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), base+".") {
			old = append(old, e.Name())
		}
	}
	slices.Sort(old)
	for len(old) > l.opts.MaxFiles-1 {
		os.Remove(filepath.Join(dir, old[0]))
		old = old[1:]
	}
}
