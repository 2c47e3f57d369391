package audit

import (
	"bytes"
	"context"
	"io"
	"os"
	"sync"

	"gopkg.in/natefinch/lumberjack.v2"
)

// LogOptions are the flags --audit-log-*: the file, "-" for standard output, and when it is put aside.
type LogOptions struct {
	Path       string
	MaxAge     int // days
	MaxBackups int
	MaxSize    int // MB
	Compress   bool
	Buffer     Buffer
}

// lines writes one event a line.
type lines struct {
	mu  sync.Mutex
	out io.Writer
}

func newLog(o LogOptions) *lines {
	if o.Path == "-" {
		return &lines{out: os.Stdout}
	}
	return &lines{out: &lumberjack.Logger{Filename: o.Path, MaxAge: o.MaxAge, MaxBackups: o.MaxBackups, MaxSize: o.MaxSize, Compress: o.Compress}}
}

func (l *lines) write(_ context.Context, events [][]byte) error {
	text := append(bytes.Join(events, []byte{'\n'}), '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.out.Write(text)
	return err
}

func (l *lines) close() {
	if c, ok := l.out.(io.Closer); ok {
		c.Close() //nolint:errcheck // every write has gone through already
	}
}
