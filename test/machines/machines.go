package machines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Gateway is the address of the bridge, and so of this machine in the lab.
const Gateway = "10.240.0.254"

const bridge = "lab"

// Lab is a set of machines.
type Lab struct {
	base, dir string
	hosts     map[string]string // name to address, what every machine knows
}

// Machine is one of them.
type Machine struct {
	Name, IP string

	lab    *Lab
	nspawn *exec.Cmd
	done   chan struct{} // closed when the machine is off
	init   int           // its process 1, seen from here
}

// New makes the bridge of a lab. base is what base.sh has made; what machines write goes below dir, which must not lie on
// an overlay file system. hosts are all machines that there will be, by name.
func New(base, dir string, hosts map[string]string) (*Lab, error) {
	for _, line := range []string{"link set lo up", "link add " + bridge + " type bridge", "address add " + Gateway + "/24 dev " + bridge, "link set " + bridge + " up"} {
		if err := command(context.Background(), "ip", strings.Fields(line)...); err != nil {
			return nil, err
		}
	}
	return &Lab{base, dir, hosts}, nil
}

// Machine prepares a machine that is off, with an empty disk.
func (l *Lab) Machine(name string) (*Machine, error) {
	m := &Machine{Name: name, IP: l.hosts[name], lab: l}
	for _, d := range []string{"upper", "work", "root", dataDisk, podDisk} {
		if err := os.MkdirAll(m.path(d), 0o755); err != nil {
			return nil, err
		}
	}
	var known strings.Builder
	known.WriteString("127.0.0.1 localhost\n")
	for _, host := range slices.Sorted(keys(l.hosts)) {
		fmt.Fprintf(&known, "%s %s\n", l.hosts[host], host)
	}
	for path, text := range map[string]string{
		"etc/hostname": name + "\n", "etc/hosts": known.String(), "etc/resolv.conf": "nameserver " + Gateway + "\n",
		"etc/systemd/network/10-host0.network": fmt.Sprintf("[Match]\nName=host0\n[Network]\nAddress=%s/24\nGateway=%s\nLinkLocalAddressing=no\n", m.IP, Gateway),
	} {
		path = m.path("upper", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	for _, d := range []string{dataDisk, podDisk} {
		if err := m.disk(d); err != nil {
			return nil, err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", l.base, m.path("upper"), m.path("work"))
	if err := syscall.Mount("overlay", m.path("root"), "overlay", 0, options); err != nil {
		return nil, fmt.Errorf("mount the disk of %s: %w", name, err)
	}
	return m, nil
}

// The disks of a machine beside the one that it boots from: small, and its own, so that they can be full or slow without
// the other machines, and are not full because the disk of this machine is.
const (
	dataDisk = "var-lib-hardway"
	podDisk  = "var-lib-kubelet"
	diskSize = 1 << 30 // takes what is written to it
)

func (m *Machine) disk(name string) error {
	image := m.path(name + ".image")
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(diskSize), f.Close()); err != nil {
		return fmt.Errorf("make a disk for %s: %w", m.Name, err)
	}
	if err := command(context.Background(), "mkfs.ext4", "-q", "-F", image); err != nil {
		return err
	}
	return command(context.Background(), "mount", "-o", "loop", image, m.path(name))
}

func keys(hosts map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range hosts {
			if !yield(name) {
				return
			}
		}
	}
}

func (m *Machine) path(parts ...string) string {
	return filepath.Join(append([]string{m.lab.dir, m.Name}, parts...)...)
}

// Start turns the machine on and waits until it has booted.
func (m *Machine) Start(ctx context.Context) error {
	enter, err := m.cgroups()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(m.path("console.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	// Pods need a file system that is not itself an overlay.
	m.nspawn = exec.Command("sh", "-c", enter+`exec "$0" "$@"`, "systemd-nspawn", "--boot", "--quiet", "--directory="+m.path("root"), "--machine="+m.Name,
		"--register=no", "--keep-unit", "--capability=all", "--system-call-filter=@keyring bpf", "--network-bridge="+bridge, "--resolv-conf=off", "--timezone=off", "--link-journal=no",
		"--console=pipe", "--bind="+m.path(dataDisk)+":/var/lib/hardway", "--bind="+m.path(podDisk)+":/var/lib/kubelet")
	m.nspawn.Stdout, m.nspawn.Stderr = log, log
	if err := m.nspawn.Start(); err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	m.done = make(chan struct{})
	go func() {
		_ = m.nspawn.Wait() // off is off
		close(m.done)
	}()
	return m.booted(ctx)
}

func (m *Machine) booted(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		select {
		case <-tick.C:
		case <-m.done:
			return fmt.Errorf("%s went off while it booted, see %s", m.Name, m.path("console.log"))
		case <-ctx.Done():
			return fmt.Errorf("%s did not boot: %w", m.Name, errors.Join(last, ctx.Err()))
		}
		if m.init, last = m.child(); last != nil {
			continue
		}
		if last = m.up(ctx); last == nil {
			return nil
		}
	}
}

// up fails while the machine still boots; systemd does not answer at every moment of that.
func (m *Machine) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_, err := m.Run(ctx, "systemctl is-active -q multi-user.target && hostname -I | grep -q .")
	return err
}

// child finds process 1 of the machine: the child of nspawn.
func (m *Machine) child() (int, error) { return childOf(m.nspawn.Process.Pid) }

func childOf(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	return strconv.Atoi(first)
}

// cgroups makes a cgroup of the machine's own in every hierarchy of v1, and returns the shell commands that enter them.
// What is in them is the root of all cgroups for the machine.
func (m *Machine) cgroups() (string, error) {
	hierarchies, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		return "", err
	}
	var enter strings.Builder
	for _, procs := range hierarchies {
		parent := filepath.Dir(procs)
		dir := filepath.Join(parent, m.cgroup())
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return "", fmt.Errorf("make cgroup: %w", err)
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if text, err := os.ReadFile(filepath.Join(parent, file)); err == nil {
				if err := os.WriteFile(filepath.Join(dir, file), text, 0o644); err != nil {
					return "", fmt.Errorf("fill cgroup: %w", err)
				}
			}
		}
		_ = os.WriteFile(filepath.Join(dir, "cgroup.clone_children"), []byte("1"), 0o644) // v1 only
		fmt.Fprintf(&enter, "echo $$ >%s/cgroup.procs; ", dir)
	}
	return enter.String(), nil
}

// Run runs a script as root's login shell would, and returns what it printed.
func (m *Machine) Run(ctx context.Context, script string) (string, error) {
	cmd := exec.CommandContext(ctx, "nsenter", "--target", strconv.Itoa(m.init), "--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd=/proc/"+strconv.Itoa(m.init)+"/root/root", "--",
		"env", "-i", "HOME=/root", "USER=root", "TERM=dumb", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"bash", "-c", "cd; set -euo pipefail; "+script)
	cmd.WaitDelay = time.Second // something in the background may hold the pipe
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return string(out), fmt.Errorf("on %s: %w\n%s\n%s", m.Name, err, script, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// Copy brings a file onto the machine.
func (m *Machine) Copy(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join("/proc", strconv.Itoa(m.init), "root", to), data, 0o600)
}

func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
