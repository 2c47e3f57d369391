package container

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

var hostCaps = CapabilityNames(1<<41 - 1)

func TestCapabilities(t *testing.T) {
	without := func(drop ...string) []string {
		return slices.DeleteFunc(slices.Clone(defaultCapabilities), func(c string) bool { return slices.Contains(drop, c) })
	}
	tests := []struct {
		name string
		s    Security
		have []string
		want []string
		err  string
	}{
		{"default", Security{}, hostCaps, defaultCapabilities, ""},
		{"drop one", Security{DropCapabilities: []string{"NET_RAW"}}, hostCaps, without("CAP_NET_RAW"), ""},
		{"with the prefix, in small letters", Security{DropCapabilities: []string{"cap_net_raw"}}, hostCaps, without("CAP_NET_RAW"), ""},
		{"drop all, add one", Security{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_ADMIN"}}, hostCaps, []string{"CAP_NET_ADMIN"}, ""},
		{"drop all", Security{DropCapabilities: []string{"ALL"}}, hostCaps, []string{}, ""},
		{"add all", Security{AddCapabilities: []string{"ALL"}}, hostCaps, hostCaps, ""},
		{"add all but one", Security{AddCapabilities: []string{"all"}, DropCapabilities: []string{"SYS_ADMIN"}}, []string{"CAP_SYS_ADMIN", "CAP_CHOWN"}, []string{"CAP_CHOWN"}, ""},
		{"the node has less", Security{}, []string{"CAP_CHOWN"}, []string{"CAP_CHOWN"}, ""},
		{"the node has not what is asked for", Security{AddCapabilities: []string{"SYS_TIME"}}, []string{"CAP_CHOWN"}, nil, "capability SYS_TIME cannot be added"},
		{"unknown", Security{AddCapabilities: []string{"FLY"}}, hostCaps, nil, `unknown capability "FLY"`},
		{"privileged", Security{Privileged: true, DropCapabilities: []string{"ALL"}}, []string{"CAP_SYS_ADMIN"}, []string{"CAP_SYS_ADMIN"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Capabilities(tt.s, tt.have)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, %v, want %q", got, err, tt.err)
				}
				return
			}
			want := slices.Sorted(slices.Values(tt.want))
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("got %v, %v, want %v", got, err, want)
			}
		})
	}
}

func TestCapabilityNamesMatchTheKernel(t *testing.T) {
	if len(knownCapabilities) != 41 {
		t.Errorf("%d names, the kernel has 41", len(knownCapabilities))
	}
	// Docker's well-known mask of the default set.
	if got := CapabilityNames(0xa80425fb); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(defaultCapabilities))) {
		t.Errorf("0xa80425fb is %v", got)
	}
}

func TestMergeEnv(t *testing.T) {
	got := MergeEnv([]string{"A=1", "B=2"}, []string{"B=3", "C=", "B=4"})
	if want := []string{"A=1", "B=4", "C="}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// compiled compiles a container that differs from an ordinary one by change.
func compiled(t *testing.T, change func(*Config, *Pod, *Host)) *specs.Spec {
	t.Helper()
	c := Config{ID: "c", Args: []string{"run"}, Hostname: "h"}
	p := Pod{NetNS: "/net", IPCNS: "/ipc", UTSNS: "/uts", Shm: "/pod/shm", Cgroup: "hardway/pod/c"}
	h := Host{Capabilities: hostCaps}
	change(&c, &p, &h)
	spec, err := Compile(c, p, h, "/root")
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestNamespaces(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config, *Pod, *Host)
		want   string
	}{
		{"ordinary", func(*Config, *Pod, *Host) {}, "mount ipc:/ipc network:/net uts:/uts pid"},
		{"the host's network", func(_ *Config, p *Pod, _ *Host) { p.NetNS, p.UTSNS = "", "" }, "mount ipc:/ipc pid"},
		{"the host's processes", func(_ *Config, p *Pod, _ *Host) { p.HostPID = true }, "mount ipc:/ipc network:/net uts:/uts"},
		{"shared processes", func(_ *Config, p *Pod, _ *Host) { p.PIDNS = "/pid" }, "mount ipc:/ipc network:/net uts:/uts pid:/pid"},
		{"cgroup v2", func(_ *Config, _ *Pod, h *Host) { h.CgroupV2 = true }, "mount ipc:/ipc network:/net uts:/uts pid cgroup"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, n := range compiled(t, tt.change).Linux.Namespaces {
				s := string(n.Type)
				if n.Path != "" {
					s += ":" + n.Path
				}
				got = append(got, s)
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %v, want %s", got, tt.want)
			}
		})
	}
}

func TestMounts(t *testing.T) {
	tests := []struct {
		name  string
		mount Mount
		want  string // destination, type, source, options
		err   string
	}{
		{"ordinary", Mount{Source: "/s", Target: "/t"}, "/t bind /s rbind,rprivate,rw", ""},
		{"read-only", Mount{Source: "/s", Target: "/t/", ReadOnly: true}, "/t bind /s rbind,rprivate,ro", ""},
		{"read-only all the way down", Mount{Source: "/s", Target: "/t", ReadOnly: true, Recursive: true}, "/t bind /s rbind,rprivate,rro", ""},
		{"propagating", Mount{Source: "/s", Target: "/t", Propagation: "rshared"}, "/t bind /s rbind,rshared,rw", ""},
		{"with options", Mount{Source: "/s", Target: "/t", Options: []string{"noexec"}}, "/t bind /s noexec,rbind,rprivate,rw", ""},
		{"memory", Mount{Source: "tmpfs", Target: "/t", Options: []string{"size=1m"}}, "/t tmpfs tmpfs size=1m,nosuid,nodev,rw", ""},
		{"over the root", Mount{Source: "/s", Target: "/."}, "", "must be absolute and not /"},
		{"relative target", Mount{Source: "/s", Target: "t"}, "", "must be absolute"},
		{"relative source", Mount{Source: "s", Target: "/t"}, "", "must be absolute"},
		{"strange propagation", Mount{Source: "/s", Target: "/t", Propagation: "private"}, "", "must be empty, rslave or rshared"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := ociMount(tt.mount)
			got := strings.Join([]string{m.Destination, m.Type, m.Source, strings.Join(m.Options, ",")}, " ")
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) || tt.err == "" && (err != nil || got != tt.want) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestMountOrder(t *testing.T) {
	spec := compiled(t, func(c *Config, _ *Pod, _ *Host) {
		c.Mounts = []Mount{{Source: "/1", Target: "/a/b/c"}, {Source: "/2", Target: "/a"}, {Source: "/3", Target: "/dev/shm"}, {Source: "/4", Target: "/a/b"}}
	})
	var own []string
	shm := 0
	for _, m := range spec.Mounts {
		if strings.HasPrefix(m.Destination, "/a") {
			own = append(own, m.Destination)
		}
		if m.Destination == "/dev/shm" {
			shm++
		}
	}
	if !slices.Equal(own, []string{"/a", "/a/b", "/a/b/c"}) {
		t.Errorf("order %v: a parent must not hide its children", own)
	}
	if shm != 1 {
		t.Errorf("/dev/shm is mounted %d times; the user's takes the place of the pod's", shm)
	}
}

func TestPrivileged(t *testing.T) {
	disk := specs.LinuxDevice{Path: "/dev/sda", Type: "b", Major: 8}
	spec := compiled(t, func(c *Config, _ *Pod, h *Host) {
		c.Security.Privileged, h.Devices = true, []HostDevice{{disk, "rwm"}}
	})
	if len(spec.Linux.MaskedPaths)+len(spec.Linux.ReadonlyPaths) != 0 {
		t.Error("paths are masked")
	}
	if r := spec.Linux.Resources.Devices; len(r) != 1 || !r[0].Allow || r[0].Access != "rwm" {
		t.Errorf("device rules %+v", r)
	}
	for _, m := range spec.Mounts {
		if m.Destination == "/sys" && !slices.Contains(m.Options, "rw") {
			t.Errorf("/sys has %v", m.Options)
		}
	}
	spec = compiled(t, func(_ *Config, _ *Pod, h *Host) { h.Devices = []HostDevice{{disk, "rm"}} })
	if r := spec.Linux.Resources.Devices; len(r) != 2 || r[0].Allow || !r[1].Allow || *r[1].Major != 8 || r[1].Access != "rm" {
		t.Errorf("device rules of one device: %+v", r)
	}
}

func TestDefaultsOfAnOrdinaryContainer(t *testing.T) {
	spec := compiled(t, func(c *Config, _ *Pod, h *Host) {
		c.TTY, c.Resources.OOMScoreAdj, h.MinOOMScore = true, -997, 0
	})
	if *spec.Process.OOMScoreAdj != 0 {
		t.Errorf("oom_score_adj %d is lower than what may be set", *spec.Process.OOMScoreAdj)
	}
	env := strings.Join(spec.Process.Env, " ")
	if env != "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOSTNAME=h TERM=xterm" {
		t.Errorf("environment %s", env)
	}
	if spec.Process.Cwd != "/" || spec.Linux.CgroupsPath != "/hardway/pod/c" || !slices.Contains(spec.Linux.MaskedPaths, "/proc/kcore") {
		t.Errorf("got %+v", spec)
	}
	if _, err := Compile(Config{}, Pod{}, Host{}, "/root"); err == nil || !strings.Contains(err.Error(), "no command") {
		t.Errorf("a container without command: %v", err)
	}
}

func TestSeccompProfile(t *testing.T) {
	allowed := func(p *specs.LinuxSeccomp, call string) bool {
		for _, s := range p.Syscalls {
			if slices.Contains(s.Names, call) && s.Action == specs.ActAllow && len(s.Args) == 0 {
				return true
			}
		}
		return false
	}
	plain := RuntimeDefaultSeccomp(defaultCapabilities, "amd64")
	for _, call := range []string{"read", "openat2", "execve", "futex", "arch_prctl", "chroot", "statx"} {
		if !allowed(plain, call) {
			t.Errorf("%s is not allowed", call)
		}
	}
	for _, call := range []string{
		"mount", "umount2", "pivot_root", "setns", "unshare", "bpf", "keyctl", "add_key", "request_key", "kexec_load", "init_module",
		"perf_event_open", "userfaultfd", "open_by_handle_at", "reboot", "swapon", "clock_settime", "io_uring_setup", "clone3", "clone", "nosuchcall",
	} {
		if allowed(plain, call) {
			t.Errorf("%s is allowed", call)
		}
	}
	admin := RuntimeDefaultSeccomp([]string{"CAP_SYS_ADMIN"}, "amd64")
	for _, call := range []string{"mount", "setns", "clone", "clone3"} {
		if !allowed(admin, call) {
			t.Errorf("with CAP_SYS_ADMIN %s is not allowed", call)
		}
	}
	seen := map[string]bool{}
	for _, s := range plain.Syscalls {
		for _, n := range s.Names {
			if len(s.Args) == 0 && seen[n] {
				t.Errorf("%s is listed twice", n)
			}
			seen[n] = true
		}
	}
}

func TestParseSeccomp(t *testing.T) {
	good, err := json.Marshal(RuntimeDefaultSeccomp(nil, "amd64"))
	if err != nil {
		t.Fatal(err)
	}
	for in, ok := range map[string]bool{string(good): true, "": false, "{}": false, "null": false, "[]": false, `{"defaultAction":"SCMP_ACT_ALLOW"}`: true} {
		if _, err := ParseSeccomp([]byte(in)); (err == nil) != ok {
			t.Errorf("%.40q: %v", in, err)
		}
	}
}
