package runtime

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/image"
	"hardway/nodeagent/image/imagetest"
	"hardway/nodeagent/network"
)

const (
	envSupervisor = "HARDWAY_TEST_SUPERVISOR" // path of the built supervisor; set inside the testbed
	envCgroup     = "HARDWAY_TEST_CGROUP"     // name of the cgroup below which all pods live; set with the one before
	envUnified    = "HARDWAY_TEST_CGROUP2"    // set by hand: see only the cgroup v2 hierarchy, whatever controllers it has
	envAgent      = "HARDWAY_TEST_AGENT"      // this process plays an agent that will be killed; the value is its folder
)

// TestMain builds the real supervisor and runs all tests in namespaces of their own.
func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "SKIP: the runtime tests need root")
		return 0
	}
	switch {
	case os.Getenv(envAgent) != "":
		return playAgent(os.Getenv(envAgent))
	case os.Getenv(envSupervisor) != "":
		if err := enterTestbed(); err != nil {
			return complain(err)
		}
		return m.Run()
	}
	return outside()
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// outside prepares the testbed and starts this program again inside it.
func outside() int {
	dir, err := os.MkdirTemp("", "hardway-runtime-")
	if err != nil {
		return complain(err)
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "hardway-supervisor")
	build := exec.Command("go", "build", "-tags", "seccomp", "-ldflags", "-s -w", "-o", binary, "../supervisor/hardway-supervisor")
	if out, err := build.CombinedOutput(); err != nil {
		return complain(fmt.Errorf("build the supervisor: %w\n%s", err, out))
	}
	cg := fmt.Sprintf("hardway-test-%d", os.Getpid())
	defer removeTestCgroups(cg)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), envSupervisor+"="+binary, envCgroup+"="+cg)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// The PID namespace ends every process a failing test leaves behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	if err := cmd.Run(); err != nil {
		return complain(err)
	}
	return 0
}

func enterTestbed() error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	if os.Getenv(envUnified) != "" {
		if err := unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""); err != nil {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// world is a node under test.
type world struct {
	*Runtime
	t    testing.TB
	dir  string
	cg   string
	next int
}

// newWorld opens a runtime with a network and one image.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), cg: os.Getenv(envCgroup)}
	store, err := image.Open(filepath.Join(w.dir, "images"), image.Options{})
	if err == nil {
		_, err = store.Import(t.Context(), imagetest.Busybox(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	log := zap.NewNop()
	if !testing.Short() && testing.Verbose() {
		log = zaptest.NewLogger(t)
	}
	if w.Runtime, err = openIn(w.dir, w.cg, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.end)
	return w
}

// openIn opens a runtime on the folders below dir, as a starting agent does.
func openIn(dir, cg string, log *zap.Logger) (*Runtime, error) {
	store, err := image.Open(filepath.Join(dir, "images"), image.Options{})
	if err != nil {
		return nil, err
	}
	net, err := network.Open(filepath.Join(dir, "network"))
	if err != nil {
		return nil, err
	}
	c := network.Config{PodCIDR: netip.MustParsePrefix("10.200.1.0/24"), ClusterCIDR: netip.MustParsePrefix("10.200.0.0/16"), Bridge: "hw0"}
	if err := net.Setup(context.Background(), c); err != nil {
		return nil, err
	}
	return Open(Options{
		StateDir: filepath.Join(dir, "run"), ImageDir: filepath.Join(dir, "images"), CgroupRoot: cg,
		SupervisorBinary: os.Getenv(envSupervisor), Images: store, Network: net, Log: log,
	})
}

// end removes every pod and the network.
func (w *world) end() {
	ctx := context.Background()
	if err := w.Teardown(ctx); err != nil {
		w.t.Error(err)
	}
	w.Close()
	if err := network.Teardown(ctx, filepath.Join(w.dir, "network"), ""); err != nil {
		w.t.Error(err)
	}
	if left := testCgroups(w.cg); len(left) != 0 {
		w.t.Errorf("cgroups left behind: %v", left)
	}
}

// pod makes a sandbox.
func (w *world) pod(change ...func(*PodConfig)) PodStatus {
	w.t.Helper()
	w.next++
	uid := fmt.Sprintf("pod-%d", w.next)
	cfg := PodConfig{UID: types.UID(uid), Namespace: "test", Name: uid, Hostname: uid, CgroupParent: w.cg + "/" + uid}
	for _, f := range change {
		f(&cfg)
	}
	st, err := w.EnsurePod(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// config describes a container that runs a shell script.
func (w *world) config(script string, change ...func(*ContainerConfig)) ContainerConfig {
	w.next++
	sum := sha256.Sum256(fmt.Appendf(nil, "container %d", w.next))
	cfg := ContainerConfig{
		ID: hex.EncodeToString(sum[:]), Name: "main", Image: "busybox", Args: []string{"sh", "-c", script},
		LogPath:  filepath.Join(w.dir, "logs", fmt.Sprintf("main-%d.log", w.next)),
		Security: Security{Seccomp: "RuntimeDefault"},
	}
	for _, f := range change {
		f(&cfg)
	}
	return cfg
}

// start starts a container.
func (w *world) start(pod PodStatus, cfg ContainerConfig) Status {
	w.t.Helper()
	st, err := w.StartContainer(w.t.Context(), pod.Config.UID, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// sh starts a container that runs a script.
func (w *world) sh(pod PodStatus, script string, change ...func(*ContainerConfig)) Status {
	w.t.Helper()
	return w.start(pod, w.config(script, change...))
}

// run runs a script to its end and returns the container's status and what it printed.
func (w *world) run(pod PodStatus, script string, change ...func(*ContainerConfig)) (Status, string) {
	w.t.Helper()
	st := w.sh(pod, script, change...)
	st = w.exited(pod, st.ID)
	return st, w.output(st)
}

const patience = 20 * time.Second

// eventually waits until f is true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// status is a container as the runtime reports it.
func (w *world) status(pod PodStatus, id string) Status {
	w.t.Helper()
	st, ok, err := w.Pod(w.t.Context(), pod.Config.UID)
	if err != nil || !ok {
		w.t.Fatalf("pod %s: %v, %v", pod.Config.UID, ok, err)
	}
	for _, c := range st.Containers {
		if c.ID == id {
			return c
		}
	}
	w.t.Fatalf("pod %s has no container %s", pod.Config.UID, id)
	return Status{}
}

func (w *world) exited(pod PodStatus, id string) Status {
	w.t.Helper()
	var st Status
	eventually(w.t, "the container ends", func() bool {
		st = w.status(pod, id)
		return st.State == Exited
	})
	return st
}

// output is the text of a container's log, records joined, without their prefix.
func (w *world) output(st Status) string {
	w.t.Helper()
	b, err := os.ReadFile(st.LogPath)
	if err != nil {
		w.t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(f) != 4 {
			w.t.Fatalf("malformed log line %q", line)
		}
		out.WriteString(f[3])
		if f[2] == "F" {
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// exec runs a script in a container and returns its exit code and what it printed on both streams.
func (w *world) exec(pod PodStatus, id, script string) (int, string) {
	w.t.Helper()
	var out buffer
	code, err := w.Exec(w.t.Context(), pod.Config.UID, id, []string{"sh", "-c", script}, Streams{Stdout: &out, Stderr: &out})
	if err != nil {
		w.t.Fatal(err)
	}
	return code, out.String()
}

// buffer collects output from several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) Close() error { return nil }

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// running says whether a process exists and is no zombie.
func running(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// testCgroups lists the cgroups below the test's root, in every hierarchy.
func testCgroups(root string) []string {
	var found []string
	for _, pattern := range []string{"/sys/fs/cgroup/*/" + root, "/sys/fs/cgroup/" + root} {
		tops, _ := filepath.Glob(pattern)
		for _, top := range tops {
			// Cgroups may go while they are listed.
			_ = filepath.WalkDir(top, func(p string, d os.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					found = append(found, p)
				}
				return nil
			})
		}
	}
	return found
}

func removeTestCgroups(root string) {
	for _, dir := range slices.Backward(testCgroups(root)) {
		os.Remove(dir)
	}
}

// playAgent is what an agent does before it is killed: it runs a pod and waits.
func playAgent(dir string) int {
	err := func() error {
		r, err := openIn(dir, os.Getenv(envCgroup), zap.NewNop())
		if err != nil {
			return err
		}
		ctx := context.Background()
		_, err = r.EnsurePod(ctx, PodConfig{UID: "survivor", Namespace: "test", Name: "survivor", Hostname: "survivor", CgroupParent: os.Getenv(envCgroup) + "/survivor"})
		if err != nil {
			return err
		}
		for name, script := range map[string]string{
			"steady": `i=0; while true; do echo $i; i=$((i+1)); usleep 10000; done`,
			"brief":  `while [ ! -e /shared/go ]; do usleep 10000; done; echo bye; exit 42`,
		} {
			_, err := r.StartContainer(ctx, "survivor", ContainerConfig{
				ID: name, Name: name, Image: "busybox", Args: []string{"sh", "-c", script}, LogPath: filepath.Join(dir, "logs", name),
				Mounts: []Mount{{Source: filepath.Join(dir, "shared"), Target: "/shared"}},
			})
			if err != nil {
				return err
			}
		}
		return nil
	}()
	if err != nil {
		return complain(err)
	}
	fmt.Fprintln(os.Stdout, "READY")
	select {}
}

// isStartError returns the StartError in err.
func isStartError(err error) (*StartError, bool) {
	var se *StartError
	ok := errors.As(err, &se)
	return se, ok
}
