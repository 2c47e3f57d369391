package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hardway/nodeagent/supervisor/crilog"
)

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func line(n int, stream, tag, text string) string {
	return epoch.Add(time.Duration(n)*time.Second).Format("2006-01-02T15:04:05.000000000Z07:00") + " " + stream + " " + tag + " " + text + "\n"
}

// series writes a log of three files: two rotated ones and the current one, with lines 1 to 6.
func series(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "0.log")
	for name, text := range map[string]string{
		path + ".20300101-000000.000000001": line(1, "stdout", "F", "one") + line(2, "stderr", "F", "two"),
		path + ".20300101-000000.000000002": line(3, "stdout", "P", "th") + line(3, "stdout", "F", "ree"),
		path:                                line(4, "stdout", "F", "four") + line(5, "stderr", "F", "") + line(6, "stdout", "F", "six"),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestRead(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    Options
		only string
		want string
	}{
		{"all", Options{Tail: -1}, "", "one|two|three|four||six|"},
		{"the last two", Options{Tail: 2}, "", "|six|"},
		{"across a rotation", Options{Tail: 5}, "", "three|four||six|"},
		{"more than there is", Options{Tail: 100}, "", "one|two|three|four||six|"},
		{"none", Options{Tail: 0}, "", ""},
		{"since", Options{Tail: -1, Since: epoch.Add(4 * time.Second)}, "", "four||six|"},
		{"one stream", Options{Tail: -1}, "stderr", "two||"},
		{"a limit of bytes", Options{Tail: -1, Limit: 6}, "", "one|tw"},
		{"time stamps", Options{Tail: 1, Timestamps: true}, "", "2030-01-01T00:00:06.000000000Z six|"},
		{"one time stamp for a line in pieces", Options{Tail: -1, Timestamps: true, Since: epoch.Add(3 * time.Second), Limit: 37}, "", "2030-01-01T00:00:03.000000000Z three|"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			var err error
			if tc.only == "stderr" {
				err = Read(t.Context(), series(t), tc.o, nil, &out)
			} else {
				err = Read(t.Context(), series(t), tc.o, &out, &out)
			}
			if got := strings.ReplaceAll(out.String(), "\n", "|"); err != nil || got != tc.want {
				t.Errorf("got %q (%v), want %q", got, err, tc.want)
			}
		})
	}
	if err := Read(t.Context(), filepath.Join(t.TempDir(), "no.log"), Options{Tail: -1}, nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a log: %v", err)
	}
}

func TestTornRecordsAreLeftOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte("garbage\n"+line(1, "stdout", "F", "ok")+"2030-01-01T00:00"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Read(t.Context(), path, Options{Tail: -1}, &out, &out); err != nil || out.String() != "ok\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestTail(t *testing.T) {
	got, err := Tail(series(t), 3, 8)
	if err != nil || got != "ur\n\nsix\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestFollowLosesNothing has the real writer rotate every few lines while a follower reads, and compares.
func TestFollowLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	log, err := crilog.Open(crilog.Options{Path: path, MaxBytes: 4096, MaxFiles: 1000})
	if err != nil {
		t.Fatal(err)
	}
	const lines = 3000
	var running atomic.Bool
	running.Store(true)
	var out bytes.Buffer
	var wg sync.WaitGroup
	var followErr error
	wg.Go(func() {
		followErr = Read(t.Context(), path, Options{Follow: true, Tail: -1, Running: running.Load}, &out, &out)
	})
	stream := log.Stream("stdout")
	for i := range lines {
		fmt.Fprintf(stream, "line %d\n", i)
	}
	stream.Close()
	log.Close()
	running.Store(false)
	wg.Wait()
	if followErr != nil {
		t.Fatal(followErr)
	}
	got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(got) != lines {
		t.Fatalf("%d lines of %d", len(got), lines)
	}
	for i, l := range got {
		if l != fmt.Sprintf("line %d", i) {
			t.Fatalf("line %d is %q", i, l)
		}
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	path := series(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Read(ctx, path, Options{Follow: true, Tail: 0, Running: func() bool { return true }}, nil, nil)
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
