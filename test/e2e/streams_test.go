//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

func TestLogs(t *testing.T) {
	u := newUser(t)
	u.apply(t, `
apiVersion: v1
kind: Pod
metadata: {name: counter}
spec:
  restartPolicy: Never
  containers:
  - {name: one, image: "busybox:1.35", command: [sh, -c, "for i in 1 2 3 4 5; do echo line $i; done"]}
  - {name: two, image: "busybox:1.35", command: [sh, -c, "echo other >&2; exit 4"]}
`)
	wait(t, "both containers ended", 30*time.Second, func() error {
		out, err := u.try(t, "", "get", "pod", "counter", "-o", "jsonpath={.status.phase}")
		if err == nil && out != "Failed" {
			return fmt.Errorf("phase %s", out)
		}
		return err
	})
	if out := u.kubectl(t, "logs counter -c one --tail=2"); out != "line 4\nline 5\n" {
		t.Errorf("the last two lines are %q", out)
	}
	if out := u.kubectl(t, "logs counter -c two -f"); out != "other\n" {
		t.Errorf("following a finished container gives %q", out)
	}
	contains(t, u.kubectl(t, "logs counter --all-containers --prefix"), "[pod/counter/one] line 1", "[pod/counter/two] other")
	if out := u.kubectl(t, "logs counter -c one --timestamps --tail=1"); !regexp.MustCompile(`^20\d\d-\d\d-\d\dT\S+ line 5\n$`).MatchString(out) {
		t.Errorf("with a timestamp: %q", out)
	}
	if out := u.kubectl(t, "logs counter -c one --limit-bytes=6"); out != "line 1" {
		t.Errorf("the first six bytes are %q", out)
	}
	if _, err := u.try(t, "", "logs", "counter", "-c", "three"); err == nil || !strings.Contains(err.Error(), "container three is not valid for pod counter") {
		t.Errorf("logs of a container that is not there: %v", err)
	}
}

func TestLogsFollow(t *testing.T) {
	u := newUser(t)
	u.startShell(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := command(ctx, "", "-n", u.namespace, "logs", "-f", "shell")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	lines := bufio.NewScanner(stdout)
	for _, want := range []string{"ready", "later"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("line %q (%v), want %q", lines.Text(), lines.Err(), want)
		}
		u.run(t, "", "exec", "shell", "--", "sh", "-c", "echo later >/proc/1/fd/1")
	}
}

func TestExec(t *testing.T) {
	u := newUser(t)
	u.startShell(t)
	if out := u.run(t, "", "exec", "shell", "--", "sh", "-c", "echo out; echo err >&2"); out != "out\n" {
		t.Errorf("stdout is %q", out)
	}
	if out := u.run(t, "some input", "exec", "-i", "shell", "--", "cat"); out != "some input" {
		t.Errorf("cat gives back %q", out)
	}
	if _, err := u.try(t, "", "exec", "shell", "--", "sh", "-c", "exit 7"); err == nil || !strings.Contains(err.Error(), "exit code 7") {
		t.Errorf("exit code 7 came as %v", err)
	}
	if _, err := u.try(t, "", "exec", "shell", "--", "no-such-program"); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("a program that is not there: %v", err)
	}
}

// TestExecTerminal is 'kubectl exec -it' at a terminal of 100 columns.
func TestExecTerminal(t *testing.T) {
	u := newUser(t)
	u.startShell(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := command(ctx, "", "-n", u.namespace, "exec", "-it", "shell", "--", "sh")
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	if _, err := io.WriteString(terminal, "tty; echo $((40+2)); stty size; exit\n"); err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(terminal) // ends with EIO when the other side closes
	if err := cmd.Wait(); err != nil {
		t.Errorf("kubectl exec -it: %v", err)
	}
	contains(t, string(out), "/dev/pts/", "42\r\n", "30 100")
}

func TestRunAndAttach(t *testing.T) {
	u := newUser(t)
	out := u.run(t, "hello\n", "run", "once", "--image=busybox:1.35", "--restart=Never", "--rm", "-i", "--", "sh", "-c", "read line; echo got $line")
	contains(t, out, "got hello", `pod "once" deleted`)
}

func TestCopy(t *testing.T) {
	u := newUser(t)
	u.startShell(t)
	content := make([]byte, 1<<20)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	there, back := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "back")
	if err := os.WriteFile(there, content, 0o600); err != nil {
		t.Fatal(err)
	}
	u.run(t, "", "cp", there, "shell:/tmp/file")
	u.run(t, "", "cp", "shell:/tmp/file", back)
	if got, err := os.ReadFile(back); err != nil || string(got) != string(content) {
		t.Errorf("copied there and back: %d of %d bytes, %v", len(got), len(content), err)
	}
}

func TestPortForward(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	for _, target := range []string{"service/hello", "deployment/hello", "pod/" + u.pods(t)[0].Name} {
		t.Run(target, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			port := ":8080"
			if strings.HasPrefix(target, "service") {
				port = ":80"
			}
			cmd := command(ctx, "", "-n", u.namespace, "port-forward", target, port)
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { cancel(); _ = cmd.Wait() }()
			line, err := bufio.NewReader(stdout).ReadString('\n')
			address := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line)
			if err != nil || address == "" {
				t.Fatalf("kubectl port-forward says %q, %v", line, err)
			}
			for range 3 {
				contains(t, httpGet(t, "http://"+address+"/forwarded"), "hello from version 1", "path /forwarded")
			}
		})
	}
}

// client opens a connection per request, as separate visitors do.
var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func tryGet(t *testing.T, url string) (string, error) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s %s", url, resp.Status, body)
	}
	return string(body), err
}

func httpGet(t *testing.T, url string) string {
	t.Helper()
	body, err := tryGet(t, url)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
