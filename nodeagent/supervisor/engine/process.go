package engine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Process is one process of a container.
type Process struct {
	Master *os.File // its terminal, if it has one; the caller closes it
	Pid    int

	lp *libcontainer.Process
}

// Exit is how a process ended.
type Exit struct {
	Code   int // 128+Signal when killed
	Signal int
}

// Wait blocks until the process has ended. It must be called exactly once.
func (p *Process) Wait() (Exit, error) {
	state, err := p.lp.Wait()
	if _, died := errors.AsType[*exec.ExitError](err); err != nil && !died {
		return Exit{Code: 255}, fmt.Errorf("wait for process %d: %w", p.Pid, err)
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	if !ok {
		return Exit{Code: state.ExitCode()}, nil
	}
	if ws.Signaled() {
		return Exit{Code: 128 + int(ws.Signal()), Signal: int(ws.Signal())}, nil
	}
	return Exit{Code: ws.ExitStatus()}, nil
}

// Kill ends the process at once.
func (p *Process) Kill() error { return p.lp.Signal(unix.SIGKILL) }

// run starts a process as p says: the container's first, or a further one.
func (c *Container) run(p *specs.Process, io IO, first bool) (*Process, error) {
	lp := &libcontainer.Process{
		Args: p.Args, Env: p.Env, Cwd: p.Cwd, Init: first,
		UID: int(p.User.UID), GID: int(p.User.GID),
		NoNewPrivileges: &p.NoNewPrivileges,
		Capabilities: &configs.Capabilities{
			Bounding: p.Capabilities.Bounding, Effective: p.Capabilities.Effective, Permitted: p.Capabilities.Permitted,
		},
	}
	for _, g := range p.User.AdditionalGids {
		lp.AdditionalGroups = append(lp.AdditionalGroups, int(g))
	}
	if p.ConsoleSize != nil {
		lp.ConsoleWidth, lp.ConsoleHeight = uint16(p.ConsoleSize.Width), uint16(p.ConsoleSize.Height)
	}
	proc := &Process{lp: lp}
	if p.Terminal {
		if err := c.runWithTerminal(proc); err != nil {
			return nil, err
		}
	} else {
		setStdio(lp, io)
		if err := c.lc.Run(lp); err != nil {
			return nil, err
		}
	}
	var err error
	proc.Pid, err = lp.Pid()
	return proc, err
}

// setStdio avoids the trap of an interface that holds a nil *os.File.
func setStdio(lp *libcontainer.Process, io IO) {
	if io.Stdin != nil {
		lp.Stdin = io.Stdin
	}
	if io.Stdout != nil {
		lp.Stdout = io.Stdout
	}
	if io.Stderr != nil {
		lp.Stderr = io.Stderr
	}
}

// runWithTerminal starts proc with a terminal made inside the container, whose master the new process sends back.
func (c *Container) runWithTerminal(proc *Process) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("console socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "console"), os.NewFile(uintptr(fds[1]), "console")
	proc.lp.ConsoleSocket = theirs
	err = c.lc.Run(proc.lp)
	theirs.Close()
	defer ours.Close()
	if err != nil {
		return err
	}
	proc.Master, err = receiveMaster(ours)
	if err != nil {
		_ = proc.Kill() // the error that counts is the first
		_, _ = proc.Wait()
	}
	return err
}

// receiveMaster reads the one descriptor that arrives on the console socket.
func receiveMaster(socket *os.File) (*os.File, error) {
	c, err := net.FileConn(socket)
	if err != nil {
		return nil, fmt.Errorf("console socket: %w", err)
	}
	defer c.Close()
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, oobn, _, _, err := c.(*net.UnixConn).ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) != 1 {
		return nil, fmt.Errorf("receive terminal: no descriptor came: %w", err)
	}
	got, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(got) != 1 {
		return nil, fmt.Errorf("receive terminal: no descriptor came: %w", err)
	}
	unix.CloseOnExec(got[0])
	// A terminal works with the poller once it does not block, so a reader can be woken by closing it.
	if err := unix.SetNonblock(got[0], true); err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return os.NewFile(uintptr(got[0]), "terminal"), nil
}
