package supervisor

import (
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"hardway/nodeagent/supervisor/engine"
)

// Subcommands of the program that contains this package.
const (
	commandSupervisor = "supervisor" // supervisor <folder of the pod>
	commandPause      = "pause"      // process 1 of a PID namespace that containers share
	commandInit       = "init"       // libcontainer's inner half
)

// Handles says whether arg, the first argument of this program, is for Main.
func Handles(arg string) bool {
	return arg == commandSupervisor || arg == commandPause || arg == commandInit
}

// Descriptors that the agent passes to a supervisor.
const (
	lockFD    = 3 // the locked LockFile; kept open for as long as this process lives
	readyFD   = 4 // closed after one zero byte when the socket listens, or after words about what went wrong
	hostMntFD = 5 // mount namespace of the host
)

// Main runs the subcommand in args[1] and returns the exit code. It must be called before the program does anything
// else, and only when Handles(args[1]).
func Main(args []string) int {
	switch args[1] {
	case commandInit:
		engine.Init() // does not return
	case commandPause:
		return pause()
	}
	if len(args) != 3 {
		fmt.Fprintln(os.Stderr, "usage:", args[0], commandSupervisor, "<folder of the pod>")
		return 2
	}
	unix.Umask(0o022)
	// Many of these processes run on a node, each with next to nothing to do: memory before speed.
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(24 << 20)
	for fd := lockFD; fd <= hostMntFD; fd++ {
		unix.CloseOnExec(fd)
	}
	ready := os.NewFile(readyFD, "ready")
	s, err := open(args[2], os.NewFile(hostMntFD, "host mount namespace"))
	if err != nil {
		fmt.Fprintln(ready, err)
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// A terminal that hangs up or a service manager that stops the agent's unit must not end the pod.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	_, _ = ready.Write([]byte{0}) // if the agent is gone, the next one finds us by the socket
	ready.Close()
	s.serve()
	return 0
}

// pause does nothing but collect the orphans of a PID namespace, until the supervisor at the other end of the pipe on
// descriptor 3 is gone.
func pause() int {
	name := []byte("pause\x00") // for those who look at the processes of the pod
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0)
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	child := make(chan os.Signal, 1)
	signal.Notify(child, syscall.SIGCHLD)
	parentGone := make(chan struct{})
	go func() {
		_, _ = os.NewFile(3, "parent").Read(make([]byte, 1))
		close(parentGone)
	}()
	for {
		select {
		case <-parentGone:
			return 0
		case <-child:
		}
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if err != nil || pid <= 0 {
				break
			}
		}
	}
}
