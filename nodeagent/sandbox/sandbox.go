// Package sandbox starts and ends the supervisor of a pod, and with it the pod's namespaces: the new process is born
// into fresh network, IPC and UTS namespaces (as far as the pod does not share the host's) and a private copy of the
// host's mounts, and bind mounts below <dir>/ns keep the first three reachable by name. A lock that the supervisor
// inherits tells, whatever else happened, whether it lives.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hardway/nodeagent/cgroup"
	"hardway/nodeagent/supervisor/wire"
)

// Options say how supervisors are started.
type Options struct {
	Binary string // program that answers to "supervisor <dir>"
	Cgroup string // leaf cgroup for supervisors on cgroup v2
}

// Launched is a supervisor that was started and may not listen yet.
type Launched struct {
	Pid   int
	NetNS string // path of the pod's network namespace; empty with the host's network

	dir   string
	ready *os.File
	ended chan struct{} // closed when the process has ended
}

// startTimeout bounds how long a supervisor may take to listen.
const startTimeout = 20 * time.Second

// Launch starts the supervisor of the pod's folder dir. The caller must call Ready; until it succeeded the pod is not
// usable, but its network namespace is.
func Launch(dir string, pod wire.Pod, o Options) (*Launched, error) {
	l, err := launch(dir, pod, o)
	if err != nil {
		return nil, fmt.Errorf("start pod supervisor: %w", err)
	}
	return l, nil
}

func launch(dir string, pod wire.Pod, o Options) (*Launched, error) {
	b, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, wire.SupervisorFile), b, 0o600); err != nil {
		return nil, err
	}
	lock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close() // the supervisor has its own descriptor of the same lock
	logFile, err := os.OpenFile(filepath.Join(dir, wire.LogFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	hostMnt, err := os.Open("/proc/self/ns/mnt")
	if err != nil {
		return nil, err
	}
	defer hostMnt.Close()
	ready, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}

	cmd := command(dir, pod, o)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.ExtraFiles = []*os.File{lock, theirs, hostMnt}
	err = cmd.Start()
	theirs.Close() // else its end could not be seen
	if err != nil {
		ready.Close()
		return nil, err
	}
	l := &Launched{Pid: cmd.Process.Pid, dir: dir, ready: ready, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is seen in the log; who watches it notices by its connection
		close(l.ended)
	}()
	if !pod.HostNetwork {
		l.NetNS = filepath.Join(dir, wire.NamespacesDir, "net")
	}
	err = errors.Join(pin(dir, l.Pid, pod), cgroup.Leave(o.Cgroup, l.Pid))
	if err != nil {
		return nil, l.abort("", err)
	}
	// The supervisor should outlive its containers when memory runs out. Not everybody may ask for that.
	_ = os.WriteFile("/proc/"+strconv.Itoa(l.Pid)+"/oom_score_adj", []byte("-999"), 0)
	return l, nil
}

// command is how a supervisor is run: in a session of its own, and outliving every context of ours.
func command(dir string, pod wire.Pod, o Options) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), o.Binary, "supervisor", dir)
	cmd.Args[0] = "hardway-supervisor"
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GOMAXPROCS=2", "GOTRACEBACK=single"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: cloneFlags(pod)}
	return cmd
}

// cloneFlags are the namespaces a supervisor is born into.
func cloneFlags(pod wire.Pod) uintptr {
	flags := uintptr(unix.CLONE_NEWNS)
	if !pod.HostNetwork {
		flags |= unix.CLONE_NEWNET | unix.CLONE_NEWUTS
	}
	if !pod.HostIPC {
		flags |= unix.CLONE_NEWIPC
	}
	return flags
}

// lock takes the lock that a living supervisor holds.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, wire.LockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for range lockTries {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		<-time.After(lockPause) // somebody may just be asking whether it is locked
	}
	f.Close()
	return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
}

// lockTries and lockPause bound the wait for those who only look at the lock.
const (
	lockTries = 20
	lockPause = 2 * time.Millisecond
)

// Alive says whether a supervisor runs for the pod's folder dir.
func Alive(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, wire.LockFile), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the pod supervisor: %w", err)
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the pod supervisor: %w", err)
	}
	return false, nil
}

// pin keeps the namespaces of the process pid reachable below dir.
func pin(dir string, pid int, pod wire.Pod) error {
	var kinds []string
	if !pod.HostNetwork {
		kinds = append(kinds, "net", "uts")
	}
	if !pod.HostIPC {
		kinds = append(kinds, "ipc")
	}
	if len(kinds) == 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(dir, wire.NamespacesDir), 0o700); err != nil {
		return err
	}
	for _, k := range kinds {
		at := filepath.Join(dir, wire.NamespacesDir, k)
		f, err := os.OpenFile(at, os.O_CREATE|os.O_RDONLY, 0o400)
		if err != nil {
			return fmt.Errorf("pin %s namespace: %w", k, err)
		}
		f.Close()
		if err := unix.Mount("/proc/"+strconv.Itoa(pid)+"/ns/"+k, at, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("pin %s namespace: %w", k, err)
		}
	}
	return nil
}

// Ready waits until the supervisor listens. When it does not, it is ended and the error says what it complained of.
func (l *Launched) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.ready.SetReadDeadline(time.Now()) })
	defer stop()
	buf := make([]byte, maxWords)
	n, err := l.ready.Read(buf) // its words come in one write
	if n == 1 && buf[0] == 0 {
		l.ready.Close()
		return nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("does not answer: %w", errors.Join(err, ctx.Err()))
	}
	return fmt.Errorf("pod supervisor: %w", l.abort(string(buf[:n]), err))
}

// maxWords bounds what a failing supervisor may say.
const maxWords = 4096

// abort ends a supervisor that failed to start and returns why it did: its own words, if it said any, else err.
func (l *Launched) abort(said string, err error) error {
	_ = unix.Kill(l.Pid, unix.SIGKILL) // it is our child and not waited for before ended closes, so the number is its own
	<-l.ended
	_ = Unpin(l.dir)                                         // whoever takes the pod down tries again and reports
	more, _ := io.ReadAll(io.LimitReader(l.ready, maxWords)) // does not block: nobody can write any more
	l.ready.Close()
	if said = strings.Trim(said+string(more), "\x00 \n"); said != "" {
		return errors.New(said)
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("ended at once: %s", logTail(l.dir))
	}
	return err
}

func logTail(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, wire.LogFile))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-1000):]))
}

// Unpin lets go of the namespaces below dir.
func Unpin(dir string) error {
	ns := filepath.Join(dir, wire.NamespacesDir)
	entries, err := os.ReadDir(ns)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unpin namespaces: %w", err)
	}
	for _, e := range entries {
		at := filepath.Join(ns, e.Name())
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unpin %s namespace: %w", e.Name(), err)
		}
		if err := os.Remove(at); err != nil {
			return fmt.Errorf("unpin %s namespace: %w", e.Name(), err)
		}
	}
	return nil
}

// Shutdown asks the supervisor of dir to end its containers and itself, and waits until it is gone. When it does not
// listen it is killed by force, together with nothing else: the caller kills the pod's cgroup. No supervisor is no error.
func Shutdown(ctx context.Context, dir string) error {
	alive, err := Alive(dir)
	if err != nil || !alive {
		return err
	}
	asked, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	pid := supervisorPid(asked, dir)
	reply, err := wire.Call(asked, dir, wire.Request{Op: wire.OpShutdown})
	var complaint error
	switch {
	case err == nil:
		complaint = reply.Err() // it ends all the same
	case pid > 0:
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill the pod supervisor: %w", err)
		}
	}
	return errors.Join(complaint, waitUnlocked(ctx, dir))
}

// supervisorPid asks the kernel who listens in dir; 0 when nobody does.
func supervisorPid(ctx context.Context, dir string) int {
	c, err := wire.Dial(ctx, dir)
	if err != nil {
		return 0
	}
	defer c.Close()
	rc, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	err = rc.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	if err != nil {
		return 0
	}
	return pid
}

// waitUnlocked waits until the supervisor of dir has ended.
func waitUnlocked(ctx context.Context, dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, wire.LockFile), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("wait for the pod supervisor: %w", err)
	}
	got := make(chan error, 1)
	go func() {
		// Blocks until the last holder is gone; then the goroutine ends, even if nobody waits any more.
		got <- unix.Flock(int(f.Fd()), unix.LOCK_EX)
		f.Close()
	}()
	select {
	case err := <-got:
		if err != nil {
			return fmt.Errorf("wait for the pod supervisor: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the pod supervisor: %w", ctx.Err())
	}
}
