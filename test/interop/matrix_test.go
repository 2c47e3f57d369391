//go:build interop

package interop

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// daemons are all six, as up.sh calls them.
var daemons = []string{"apiserver", "controllers", "scheduler", "nodeagent", "netproxy", "dns"}

// slice are the end-to-end tests that each cluster of the matrix must pass: what a user does in the first minutes.
const slice = "^Test(NodesAreReady|SampleOfMakeUp|Change|ServiceFromPod|HeadlessService|ServiceFromHost|PodToPod|Rollout|Scale|Delete|GracefulDelete|" +
	"NamespaceDelete|Logs|LogsFollow|Exec|RunAndAttach|Copy|PortForward|ClientGoInformer)$"

// TestMatrix exchanges each daemon: upstream's among five of ours, and ours among five of upstream's. Each time scripts/up.sh
// brings up a cluster, with its own flags and files, and the slice of the end-to-end tests runs in it. It needs root, and a
// machine on which no cluster runs.
func TestMatrix(t *testing.T) {
	if os.Getenv("PEERS") == "" {
		t.Skip("PEERS names no folder: start this with test/interop/run.sh")
	}
	m := &matrix{dir: t.TempDir()}
	var err error
	if m.root, err = filepath.Abs("../.."); err != nil {
		t.Fatal(err)
	}
	m.command(t, nil, "go", "test", "-c", "-tags", "e2e", "-o", filepath.Join(m.dir, "e2e.test"), "hardway/test/e2e")
	for _, name := range daemons {
		t.Run(name+"/upstream's among ours", func(t *testing.T) { m.cluster(t, []string{name}) })
		t.Run(name+"/ours among upstream's", func(t *testing.T) {
			var others []string
			for _, other := range daemons {
				if other != name {
					others = append(others, other)
				}
			}
			m.cluster(t, others)
		})
	}
}

type matrix struct{ root, dir string }

// cluster brings up one in which some daemons are upstream's, tests it and takes it down.
func (m *matrix) cluster(t *testing.T, theirs []string) {
	dir, err := os.MkdirTemp("", "hw") // short, for the paths of sockets
	if err != nil {
		t.Fatal(err)
	}
	state, bin := filepath.Join(dir, "s"), filepath.Join(dir, "bin")
	env := []string{"HARDWAY_STATE=" + state, "HARDWAY_BIN=" + bin, "NODES=1"}
	m.command(t, env, append([]string{"test/peers/bin.sh", bin}, theirs...)...)
	t.Cleanup(func() {
		m.command(t, env, "test/peers/down.sh")
		if !t.Failed() {
			_ = os.RemoveAll(dir)
		}
	})
	t.Log(lastLines(m.command(t, env, "scripts/up.sh"), 8))
	cmd := exec.Command(filepath.Join(m.dir, "e2e.test"), "-test.v", "-test.timeout=10m", "-test.run="+slice) //nolint:noctx // it has a timeout
	cmd.Dir = filepath.Join(m.root, "test", "e2e")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\nlogs: %s", err, out, filepath.Join(state, "log"))
	}
	t.Logf("%d tests passed", bytes.Count(out, []byte("\n--- PASS")))
}

// command runs a program in the repository's folder, and ends the test if it fails.
func (m *matrix) command(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // up.sh gives up by itself
	cmd.Dir, cmd.Env = m.root, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
