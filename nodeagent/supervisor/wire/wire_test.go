package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hardway/nodeagent/container"
)

// pair is the two ends of a connection in a folder whose name is too long for a socket address.
func pair(t *testing.T) (client, server *net.UnixConn) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func TestMessagesAndFiles(t *testing.T) {
	client, server := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	big := strings.Repeat("x", 1<<20)
	go func() {
		defer client.Close()
		for _, req := range []Request{
			{Op: OpStatus},
			{Op: OpExec, ID: "c", Exec: &Exec{Args: []string{big}, Stdout: true}},
			{Op: OpResize, Size: container.Size{Width: 80, Height: 24}},
		} {
			var files []*os.File
			if req.Op == OpExec {
				files = []*os.File{w}
			}
			if err := Send(client, req, files...); err != nil {
				t.Error(err)
			}
		}
		w.Close()
	}()
	var got Request
	if files, err := Receive(server, &got); err != nil || got.Op != OpStatus || len(files) != 0 {
		t.Fatalf("got %+v, %d files, %v", got, len(files), err)
	}
	files, err := Receive(server, &got)
	if err != nil || got.Exec == nil || got.Exec.Args[0] != big || len(files) != 1 {
		t.Fatalf("got %d files, %v", len(files), err)
	}
	fmt.Fprint(files[0], "through")
	files[0].Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "through" {
		t.Errorf("the pipe carried %q, %v", b, err)
	}
	got = Request{}
	if _, err := Receive(server, &got); err != nil || got.Size.Width != 80 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := Receive(server, &got); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestBrokenMessages(t *testing.T) {
	for name, bytes := range map[string]string{
		"too long": "\xff\xff\xff\xff", "no JSON": "\x00\x00\x00\x03abc", "cut off": "\x00\x00\x00\x09abc", "cut off at once": "\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			client, server := pair(t)
			fmt.Fprint(client, bytes)
			client.Close()
			var got Request
			if _, err := Receive(server, &got); err == nil {
				t.Errorf("got %+v", got)
			}
		})
	}
	client, _ := pair(t)
	if err := Send(client, Request{ID: strings.Repeat("x", MaxMessage)}); err == nil {
		t.Error("a message over the limit was sent")
	}
}

func TestCallGivesUp(t *testing.T) {
	dir := t.TempDir()
	l, err := Listen(dir) // listens but never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Call(ctx, dir, Request{Op: OpStatus}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := Call(t.Context(), t.TempDir(), Request{Op: OpStatus}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a supervisor: %v", err)
	}
}

func TestReplyErrors(t *testing.T) {
	if err := (&Reply{}).Err(); err != nil {
		t.Errorf("got %v", err)
	}
	if err := (&Reply{Error: "no c", Missing: true}).Err(); !errors.Is(err, ErrNoContainer) {
		t.Errorf("got %v", err)
	}
	if err := (&Reply{Error: "bad"}).Err(); err == nil || err.Error() != "bad" {
		t.Errorf("got %v", err)
	}
}
