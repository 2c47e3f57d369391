package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"hardway/nodeagent/container"
	"hardway/nodeagent/supervisor/engine"
	"hardway/nodeagent/supervisor/wire"
)

// open makes this process the supervisor of the pod's folder dir: everything before the first request.
func open(dir string, hostMnt *os.File) (*Supervisor, error) {
	var pod wire.Pod
	b, err := os.ReadFile(filepath.Join(dir, wire.SupervisorFile))
	if err == nil {
		err = json.Unmarshal(b, &pod)
	}
	if err != nil {
		return nil, fmt.Errorf("read the pod's description: %w", err)
	}
	// Mounts of the host keep arriving here, ours never reach the host.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return nil, fmt.Errorf("make mounts private to the pod: %w", err)
	}
	shared, err := shareNamespaces(dir, pod)
	if err != nil {
		return nil, err
	}
	s := &Supervisor{
		dir: dir, pod: pod, containers: map[string]*entry{}, watchers: map[chan container.Status]bool{}, done: make(chan struct{}),
		engine: &engine.Engine{Dir: dir, Data: pod.Data, Pod: shared, HostMnt: hostMnt},
	}
	if pod.ShareProcess && !pod.HostPID {
		if err := s.startPause(); err != nil {
			return nil, err
		}
	}
	if pod.HostPID {
		// Orphans of such containers would otherwise go to the host's init.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return nil, fmt.Errorf("become subreaper: %w", err)
		}
	}
	s.startReaper()
	if err := s.loadRecords(); err != nil {
		return nil, err
	}
	s.listener, err = wire.Listen(dir)
	return s, err
}

// shareNamespaces prepares what this process shares with the containers: host name, kernel settings, /dev/shm.
func shareNamespaces(dir string, pod wire.Pod) (container.Pod, error) {
	own := func(kind string) string { return "/proc/" + strconv.Itoa(os.Getpid()) + "/ns/" + kind }
	p := container.Pod{HostPID: pod.HostPID, Cgroup: pod.Cgroup, Shm: "/dev/shm"}
	if !pod.HostNetwork {
		p.NetNS, p.UTSNS = own("net"), own("uts")
		if err := unix.Sethostname([]byte(pod.Hostname)); err != nil {
			return p, fmt.Errorf("set host name %q: %w", pod.Hostname, err)
		}
	}
	if !pod.HostIPC {
		p.IPCNS, p.Shm = own("ipc"), filepath.Join(dir, "shm")
		if err := os.MkdirAll(p.Shm, 0o700); err != nil {
			return p, fmt.Errorf("shared memory: %w", err)
		}
		flags := uintptr(unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV)
		if err := unix.Mount("shm", p.Shm, "tmpfs", flags, "mode=1777,size=65536k"); err != nil {
			return p, fmt.Errorf("shared memory: %w", err)
		}
	}
	return p, setSysctls(pod)
}

// setSysctls writes the pod's kernel settings. Only those that belong to a namespace of the pod are taken: anything
// else would change the node.
func setSysctls(pod wire.Pod) error {
	for name, value := range pod.Sysctls {
		if why := sysctlRefusal(name, pod); why != "" {
			return fmt.Errorf("sysctl %q: %s", name, why)
		}
		path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
		if strings.Contains(name, "/") {
			// The other spelling, in which a slash separates and a dot is part of a name (net/ipv4/conf/eth0.1/...).
			path = "/proc/sys/" + name
		}
		if filepath.Clean(path) != path {
			return fmt.Errorf("sysctl %q: not a name of a kernel setting", name)
		}
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fmt.Errorf("sysctl %q: %w", name, err)
		}
	}
	return nil
}

// sysctlRefusal says why a setting may not be made for the pod; empty: it may.
func sysctlRefusal(name string, pod wire.Pod) string {
	dotted := strings.ReplaceAll(name, "/", ".")
	isIPC := strings.HasPrefix(dotted, "fs.mqueue.") || dotted == "kernel.sem"
	for _, p := range []string{"kernel.shm", "kernel.msg"} {
		isIPC = isIPC || strings.HasPrefix(dotted, p)
	}
	switch {
	case isIPC && pod.HostIPC:
		return "not allowed with the host's IPC namespace"
	case isIPC:
		return ""
	case strings.HasPrefix(dotted, "net.") && pod.HostNetwork:
		return "not allowed with the host's network"
	case strings.HasPrefix(dotted, "net."):
		return ""
	}
	return "it does not belong to a namespace, so it would change the whole node"
}

// startPause starts process 1 of the PID namespace that the containers share.
func (s *Supervisor) startPause() error {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start process 1 of the pod: %w", err)
	}
	defer theirs.Close()
	s.pauseLife = ours                                                               // never written; it closes when this process ends
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", commandPause) // lives as long as the pod
	cmd.Args[0] = "pause"
	cmd.Env = []string{"GOMAXPROCS=1", "GOGC=50"}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start process 1 of the pod: %w", err)
	}
	s.engine.Pod.PIDNS = "/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/pid"
	// Its end takes every container along, whose own exits are then reported; nothing else is to be done about it.
	go func() { _ = cmd.Wait() }()
	return nil
}
