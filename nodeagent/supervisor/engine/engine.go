package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"hardway/nodeagent/container"
)

// Engine starts the containers of one pod.
type Engine struct {
	Dir     string        // folder of the pod, on a file system in memory: root mount points, libcontainer's state
	Data    string        // folder on disk for writable layers
	Pod     container.Pod // what the pod's containers share
	HostMnt *os.File      // mount namespace of the host, where the sources of mounts are looked up
}

// Request is one container to start.
type Request struct {
	Config  container.Config
	Layers  []string // folders of the image's layers, topmost first
	Seccomp []byte   // content of a Localhost profile
	IO      IO

	TargetPid int // process whose PID namespace the container shares; 0: none
}

// IO are the ends that a process gets. With a terminal they are ignored.
type IO struct{ Stdin, Stdout, Stderr *os.File }

// StartError says why a container could not start: words for the user, and the exit code that stands for it (127 the
// program is not there, 126 it may not be executed, 128 anything else).
type StartError struct {
	Code   int
	Reason string
}

func (e *StartError) Error() string { return e.Reason }

// Container is one that has been started.
type Container struct {
	Init *Process // its first process

	pidfd  *os.File // of the first process: a number can become another process's
	engine *Engine
	id     string
	lc     *libcontainer.Container
	spec   *specs.Spec
}

// Start mounts, creates and starts a container. When it fails nothing is left but the writable layer, which Discard
// removes; the error is a *StartError.
func (e *Engine) Start(r Request) (*Container, error) {
	c := &Container{engine: e, id: r.Config.ID}
	if err := c.start(r); err != nil {
		if derr := c.Destroy(); derr != nil {
			err = fmt.Errorf("%w; and what was made of it cannot be removed: %w", err, derr)
		}
		return nil, startError(err)
	}
	return c, nil
}

func (c *Container) start(r Request) error {
	go warmCgroups()
	root, err := c.engine.mountRoot(r.Config.ID, r.Layers)
	if err != nil {
		return err
	}
	cfg := r.Config
	cfg.Mounts, err = c.engine.stageMounts(cfg.ID, cfg.Mounts)
	if err != nil {
		return err
	}
	defer c.engine.unstageMounts(cfg.ID)
	host, err := hostFacts(cfg, r.Seccomp)
	if err != nil {
		return err
	}
	pod := c.engine.Pod
	pod.Cgroup = filepath.Join(pod.Cgroup, cfg.ID)
	if r.TargetPid > 0 {
		pod.PIDNS = fmt.Sprintf("/proc/%d/ns/pid", r.TargetPid)
	}
	c.spec, err = container.Compile(cfg, pod, host, root)
	if err != nil {
		return err
	}
	c.spec.Process.User, err = resolveUser(root, cfg.User, cfg.Groups, cfg.StrictGroups)
	if err != nil {
		return err
	}
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: cfg.ID, Spec: c.spec})
	if err != nil {
		return err
	}
	c.lc, err = libcontainer.Create(c.engine.stateDir(), cfg.ID, config)
	if err != nil {
		return err
	}
	c.Init, err = c.run(c.spec.Process, r.IO, true)
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(c.Init.Pid, 0) // nobody has waited for it yet, so the number is its own
	if err != nil {
		_ = c.Init.Kill()
		_, _ = c.Init.Wait()
		return fmt.Errorf("open process %d: %w", c.Init.Pid, err)
	}
	c.pidfd = os.NewFile(uintptr(fd), "first process")
	return nil
}

func (e *Engine) stateDir() string { return filepath.Join(e.Dir, "libcontainer") }

// Exec starts a further process with the environment, user and rights of the first.
func (c *Container) Exec(args []string, tty bool, size container.Size, io IO) (*Process, error) {
	p := *c.spec.Process
	p.Args, p.Terminal, p.OOMScoreAdj = args, tty, nil
	if tty {
		p.ConsoleSize = &specs.Box{Width: uint(size.Width), Height: uint(size.Height)}
		p.Env = container.MergeEnv([]string{"TERM=xterm"}, p.Env)
	}
	proc, err := c.run(&p, io, false)
	if err != nil {
		return nil, startError(err)
	}
	return proc, nil
}

// Signal sends sig to the first process. With the first process of a PID namespace all others end. A container that has
// ended is no error. It never waits for a process that is being started: on an overloaded machine that takes long.
func (c *Container) Signal(sig unix.Signal) error {
	rc, err := c.pidfd.SyscallConn()
	if err == nil {
		cerr := rc.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
		err = errors.Join(err, cerr)
	}
	if errors.Is(err, unix.ESRCH) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// KillAll ends every process of the container, whichever PID namespace it lives in.
func (c *Container) KillAll() error {
	err := c.lc.Signal(unix.SIGKILL)
	if errors.Is(err, libcontainer.ErrNotRunning) || errors.Is(err, os.ErrProcessDone) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// OOMKills counts the processes of the container that the kernel killed for lack of memory. Read it before Destroy.
func (c *Container) OOMKills() uint64 {
	paths, err := c.lc.State()
	if err != nil {
		return 0
	}
	return oomKills(paths.CgroupPaths)
}

// Destroy removes all of a stopped container but its writable layer: leftover processes, cgroup, mounts.
func (c *Container) Destroy() error {
	var errs []error
	if c.lc != nil {
		errs = append(errs, c.lc.Destroy())
	}
	if c.pidfd != nil {
		errs = append(errs, c.pidfd.Close())
	}
	c.engine.unstageMounts(c.id)
	errs = append(errs, c.engine.unmountRoot(c.id))
	return errors.Join(errs...)
}

// startError finds the words for the user in what libcontainer says.
func startError(err error) *StartError {
	if se, ok := errors.AsType[*StartError](err); ok {
		return se
	}
	msg := err.Error()
	for _, prefix := range []string{"unable to start container process: ", "error during container init: ", "error executing setns process: "} {
		msg = strings.TrimPrefix(msg, prefix)
	}
	code := 128
	if strings.HasPrefix(msg, "exec: ") {
		switch {
		case strings.Contains(msg, "permission denied"), strings.Contains(msg, "is a directory"):
			code = 126
		case strings.Contains(msg, "not found"), strings.Contains(msg, "no such file or directory"):
			code = 127
		}
	}
	return &StartError{Code: code, Reason: msg}
}

// seccompProfile is the profile that name stands for; nil is unconfined.
func seccompProfile(s container.Security, localhost []byte, caps []string) (*specs.LinuxSeccomp, error) {
	switch {
	case s.Privileged, s.Seccomp == "", s.Seccomp == "Unconfined":
		return nil, nil
	case s.Seccomp == "RuntimeDefault":
		return container.RuntimeDefaultSeccomp(caps, runtime.GOARCH), nil
	case strings.HasPrefix(s.Seccomp, "Localhost:"):
		return container.ParseSeccomp(localhost)
	}
	return nil, fmt.Errorf("unknown seccomp profile %q", s.Seccomp)
}
