package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestExec(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	st := w.sh(pod, "sleep 1000", func(c *ContainerConfig) { c.Env, c.User = []string{"COLOR=red"}, "1000" })
	run := func(s Streams, args ...string) (int, error) {
		return w.Exec(t.Context(), pod.Config.UID, st.ID, args, s)
	}

	t.Run("streams stay apart", func(t *testing.T) {
		var out, errs buffer
		code, err := run(Streams{Stdin: strings.NewReader("typed\n"), Stdout: &out, Stderr: &errs}, "sh", "-c", "cat; echo $COLOR; id -u; echo wrong >&2; exit 4")
		if err != nil || code != 4 || out.String() != "typed\nred\n1000\n" || errs.String() != "wrong\n" {
			t.Errorf("got %d, %v, %q, %q", code, err, out.String(), errs.String())
		}
	})
	t.Run("a lot of output", func(t *testing.T) {
		var out buffer
		code, err := run(Streams{Stdout: &out}, "sh", "-c", "yes 0123456789 | head -n 200000")
		if err != nil || code != 0 || len(out.String()) != 200000*11 {
			t.Errorf("got %d, %v, %d bytes", code, err, len(out.String()))
		}
	})
	t.Run("a lot of input", func(t *testing.T) {
		var out buffer
		code, err := run(Streams{Stdin: strings.NewReader(strings.Repeat("x", 3<<20)), Stdout: &out}, "wc", "-c")
		if err != nil || code != 0 || strings.TrimSpace(out.String()) != fmt.Sprint(3<<20) {
			t.Errorf("got %d, %v, %q", code, err, out.String())
		}
	})
	t.Run("no such program", func(t *testing.T) {
		code, err := run(Streams{}, "nosuch")
		if code != 127 || err == nil || !strings.Contains(err.Error(), `exec: "nosuch": executable file not found in $PATH`) {
			t.Errorf("got %d, %v", code, err)
		}
	})
	t.Run("no such container", func(t *testing.T) {
		if _, err := w.Exec(t.Context(), pod.Config.UID, "nobody", []string{"true"}, Streams{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("given up", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		var out buffer
		_, err := w.Exec(ctx, pod.Config.UID, st.ID, []string{"sleep", "555"}, Streams{Stdout: &out})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		eventually(t, "the command is killed", func() bool {
			_, out := w.exec(pod, st.ID, "ps -o args")
			return !strings.Contains(out, "sleep 555")
		})
	})
	t.Run("output held open by a child", func(t *testing.T) {
		var out buffer
		start := time.Now()
		code, err := run(Streams{Stdout: &out}, "sh", "-c", "sleep 777 & echo parent")
		if err != nil || code != 0 || out.String() != "parent\n" || time.Since(start) > patience/2 {
			t.Errorf("got %d, %v, %q after %v", code, err, out.String(), time.Since(start))
		}
	})
	t.Run("many at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				var out buffer
				code, err := run(Streams{Stdout: &out}, "sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i))
				if err != nil || code != i || out.String() != fmt.Sprintln(i) {
					t.Errorf("%d: got %d, %v, %q", i, code, err, out.String())
				}
			})
		}
		wg.Wait()
	})
}

func TestExecTerminal(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	st := w.sh(pod, "sleep 1000")
	in, type_ := io.Pipe()
	resize := make(chan Size, 1)
	resize <- Size{Width: 100, Height: 40}
	var out buffer
	type result struct {
		code int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		code, err := w.Exec(t.Context(), pod.Config.UID, st.ID, []string{"sh"}, Streams{Stdin: in, Stdout: &out, TTY: true, Resize: resize})
		done <- result{code, err}
	}()
	say := func(line, answer string) {
		t.Helper()
		fmt.Fprintln(type_, line)
		eventually(t, answer, func() bool { return strings.Contains(out.String(), answer) })
	}
	say("stty size", "40 100")
	say("tty", "/dev/pts/")
	resize <- Size{Width: 80, Height: 24}
	eventually(t, "the new size", func() bool {
		fmt.Fprint(type_, "stty size\n")
		<-time.After(20 * time.Millisecond)
		return strings.Contains(out.String(), "24 80")
	})
	say("echo $TERM", "xterm")
	fmt.Fprint(type_, "exit 6\n")
	if r := <-done; r.code != 6 || r.err != nil {
		t.Errorf("got %+v, output %q", r, out.String())
	}
	type_.Close()
}

func TestAttach(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	st := w.sh(pod, `while read line; do echo "got $line"; done; echo over >&2; exit 8`, func(c *ContainerConfig) { c.Stdin, c.StdinOnce = true, true })
	var watching, typing, errs buffer
	in, type_ := io.Pipe()
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- w.Attach(ctx, pod.Config.UID, st.ID, Streams{Stdout: &watching}) }()
	done := make(chan error, 1)
	go func() {
		done <- w.Attach(t.Context(), pod.Config.UID, st.ID, Streams{Stdin: in, Stdout: &typing, Stderr: &errs})
	}()
	n := 0
	eventually(t, "both clients see what one types", func() bool {
		n++
		fmt.Fprintf(type_, "line %d\n", n)
		<-time.After(10 * time.Millisecond)
		return strings.Contains(watching.String(), "got line") && strings.Contains(typing.String(), "got line")
	})
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the one who left: %v", err)
	}
	fmt.Fprint(type_, "last\n")
	type_.Close() // StdinOnce: the container sees the end of its input
	if err := <-done; err != nil {
		t.Errorf("the one who stayed: %v", err)
	}
	if !strings.HasSuffix(typing.String(), "got last\n") || errs.String() != "over\n" {
		t.Errorf("saw %q, %q", typing.String(), errs.String())
	}
	got := w.exited(pod, st.ID)
	if got.ExitCode != 8 || !strings.Contains(w.output(got), "got last\n") {
		t.Errorf("%+v, log %q", got, w.output(got))
	}
	if err := w.Attach(t.Context(), pod.Config.UID, st.ID, Streams{Stdout: &watching}); err == nil {
		t.Error("attached to a container that has ended")
	}
}

func TestAttachTerminal(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	st := w.sh(pod, "exec sh", func(c *ContainerConfig) { c.TTY, c.Stdin = true, true })
	in, type_ := io.Pipe()
	defer type_.Close()
	resize := make(chan Size, 1)
	var out buffer
	done := make(chan error, 1)
	go func() {
		done <- w.Attach(t.Context(), pod.Config.UID, st.ID, Streams{Stdin: in, Stdout: &out, TTY: true, Resize: resize})
	}()
	resize <- Size{Width: 90, Height: 30}
	eventually(t, "the size arrives", func() bool {
		fmt.Fprint(type_, "stty size\n")
		<-time.After(20 * time.Millisecond)
		return strings.Contains(out.String(), "30 90")
	})
	fmt.Fprint(type_, "exit 5\n")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := w.exited(pod, st.ID); got.ExitCode != 5 {
		t.Errorf("%+v", got)
	}
}

func TestDial(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	w.sh(pod, "mkdir /w; echo hello > /w/index.html; httpd -f -p 127.0.0.1:8080 -h /w")
	var answer []byte
	eventually(t, "the server answers", func() bool {
		c, err := w.Dial(t.Context(), pod.Config.UID, 8080)
		if err != nil {
			return false
		}
		defer c.Close()
		fmt.Fprint(c, "GET /index.html HTTP/1.0\r\n\r\n")
		answer, err = io.ReadAll(c)
		return err == nil
	})
	if !strings.HasSuffix(string(answer), "hello\n") {
		t.Errorf("got %q", answer)
	}
	if _, err := w.Dial(t.Context(), pod.Config.UID, 9); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("closed port: %v", err)
	}
}

// TestExecAtTheEnd: processes that are on their way into a container while it ends must not hold its end back.
func TestExecAtTheEnd(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	for range 10 {
		st := w.sh(pod, "usleep 30000") // ends in the middle of them
		var g sync.WaitGroup
		for range 4 {
			g.Go(func() {
				for running := true; running; {
					_, err := w.Exec(t.Context(), pod.Config.UID, st.ID, []string{"true"}, Streams{})
					running = err == nil
				}
			})
		}
		g.Wait()
		w.exited(pod, st.ID)
	}
}
