package node

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Machine is what does not change while the agent runs.
type Machine struct {
	CPUs      int64
	Memory    int64            // bytes
	Storage   int64            // bytes of the file system that holds the root directory
	HugePages map[string]int64 // bytes by page size, such as "2Mi"
	Info      corev1.NodeSystemInfo
}

// Gauges is how much of the machine is left at the moment.
type Gauges struct {
	MemoryAvailable   int64
	Disk, DiskFree    uint64
	Inodes, InodeFree uint64
	PIDs, PIDsUsed    int64
}

// ReadMachine looks at the machine; root is the directory whose file system counts as its storage.
func ReadMachine(root string) (Machine, error) {
	m := Machine{CPUs: int64(runtime.NumCPU()), HugePages: map[string]int64{}}
	memory, err := meminfo()
	if err != nil {
		return m, err
	}
	m.Memory = memory["MemTotal"]
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return m, fmt.Errorf("statfs %s: %w", root, err)
	}
	m.Storage = int64(st.Blocks) * st.Bsize
	if err := m.readHugePages(); err != nil {
		return m, err
	}
	m.Info, err = systemInfo()
	return m, err
}

func (m *Machine) readHugePages() error {
	dirs, err := filepath.Glob("/sys/kernel/mm/hugepages/hugepages-*kB")
	if err != nil {
		return err
	}
	for _, d := range dirs {
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(d), "hugepages-"), "kB"), 10, 64)
		if err != nil {
			continue
		}
		n, err := readInt(filepath.Join(d, "nr_hugepages"))
		if err != nil {
			return err
		}
		m.HugePages[resource.NewQuantity(kb<<10, resource.BinarySI).String()] = n * kb << 10
	}
	return nil
}

func systemInfo() (corev1.NodeSystemInfo, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return corev1.NodeSystemInfo{}, fmt.Errorf("uname: %w", err)
	}
	info := corev1.NodeSystemInfo{
		KernelVersion: unix.ByteSliceToString(u.Release[:]), OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH,
		OSImage: osImage(), MachineID: firstLine("/etc/machine-id", "/var/lib/dbus/machine-id"),
		SystemUUID: firstLine("/sys/class/dmi/id/product_uuid"), BootID: firstLine("/proc/sys/kernel/random/boot_id"),
	}
	if info.SystemUUID == "" {
		info.SystemUUID = info.MachineID
	}
	return info, nil
}

func osImage() string {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "Linux"
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return "Linux"
}

// firstLine returns the first line of the first file that can be read; "" if there is none.
func firstLine(paths ...string) string {
	for _, p := range paths {
		if data, err := os.ReadFile(p); err == nil {
			line, _, _ := strings.Cut(string(data), "\n")
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// ReadGauges measures what is left.
func ReadGauges(root string) (Gauges, error) {
	memory, err := meminfo()
	if err != nil {
		return Gauges{}, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return Gauges{}, fmt.Errorf("statfs %s: %w", root, err)
	}
	g := Gauges{
		MemoryAvailable: memory["MemAvailable"],
		Disk:            st.Blocks * uint64(st.Bsize), DiskFree: st.Bavail * uint64(st.Bsize), Inodes: st.Files, InodeFree: st.Ffree,
	}
	if g.PIDs, err = readInt("/proc/sys/kernel/pid_max"); err != nil {
		return g, err
	}
	if threads, err := readInt("/proc/sys/kernel/threads-max"); err == nil {
		g.PIDs = min(g.PIDs, threads)
	}
	load := strings.Fields(firstLine("/proc/loadavg"))
	if len(load) > 3 {
		_, tasks, _ := strings.Cut(load[3], "/")
		if g.PIDsUsed, err = strconv.ParseInt(tasks, 10, 64); err != nil {
			return g, fmt.Errorf("read /proc/loadavg: %w", err)
		}
	}
	return g, nil
}

// meminfo reads /proc/meminfo in bytes.
func meminfo() (map[string]int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]int64{}
	for s := bufio.NewScanner(f); s.Scan(); {
		name, rest, _ := strings.Cut(s.Text(), ":")
		if kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64); err == nil {
			out[name] = kb << 10
		}
	}
	if out["MemTotal"] == 0 {
		return nil, errors.New("/proc/meminfo has no MemTotal")
	}
	return out, nil
}

func readInt(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return n, nil
}

// Address finds the address under which the machine is reached: that of the interface with the default route, else
// the one from which it talks to peer ("host:port").
func Address(peer string) (net.IP, error) {
	if ip := defaultRouteAddress(); ip != nil {
		return ip, nil
	}
	conn, err := net.Dial("udp", peer) //nolint:noctx // sends nothing; the kernel picks the source address
	if err != nil {
		return nil, fmt.Errorf("no default route, and no route to %s: %w", peer, err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).IP, nil
}

func defaultRouteAddress() net.IP {
	data, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		link, err := net.InterfaceByName(f[0])
		if err != nil {
			continue
		}
		addrs, err := link.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
				return n.IP
			}
		}
	}
	return nil
}
