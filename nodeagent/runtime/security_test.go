package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestIdentity(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	tests := []struct {
		name   string
		change func(*ContainerConfig)
		want   string
	}{
		{"root by default", func(*ContainerConfig) {}, "uid=0(root) gid=0(root) groups=0(root)"},
		{"by name, with the image's groups", func(c *ContainerConfig) { c.User = "web" }, "uid=1000(web) gid=1000(web) groups=1000(web),2000(logs)"},
		{"by number of a known user", func(c *ContainerConfig) { c.User = "1000" }, "uid=1000(web) gid=1000(web) groups=1000(web),2000(logs)"},
		{"by unknown number", func(c *ContainerConfig) { c.User = "4711" }, "uid=4711 gid=0(root) groups=0(root)"},
		{"with a group", func(c *ContainerConfig) { c.User = "1000:3000" }, "uid=1000(web) gid=3000 groups=2000(logs),3000"},
		{"with a group's name", func(c *ContainerConfig) { c.User = "web:logs" }, "uid=1000(web) gid=2000(logs) groups=2000(logs)"},
		{"with further groups", func(c *ContainerConfig) { c.User, c.Groups = "1000", []int64{5000} }, "uid=1000(web) gid=1000(web) groups=1000(web),2000(logs),5000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st, out := w.run(pod, "id", tt.change)
			if strings.TrimSpace(out) != tt.want {
				t.Errorf("got %q (exit code %d), want %q", out, st.ExitCode, tt.want)
			}
		})
	}
}

func TestConfinement(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	yes := func(c *ContainerConfig) {}
	tests := []struct {
		name   string
		change func(*ContainerConfig)
		script string
		want   string // regular expression for the output
	}{
		{"the 14 capabilities", yes, "grep CapEff /proc/self/status", `00000000a80425fb\n`},
		{"one capability less", func(c *ContainerConfig) { c.Security.DropCapabilities = []string{"NET_RAW"} }, "grep CapEff /proc/self/status", `00000000a80405fb\n`},
		{"none but one", func(c *ContainerConfig) {
			c.Security.DropCapabilities, c.Security.AddCapabilities = []string{"ALL"}, []string{"NET_BIND_SERVICE"}
		}, "grep CapEff /proc/self/status", `0000000000000400\n`},
		{"not root, no capabilities", func(c *ContainerConfig) { c.User = "1000" }, "grep CapEff /proc/self/status", `0000000000000000\n`},
		{"privileges can be gained", yes, "grep NoNewPrivs /proc/self/status", `0\n`},
		{"privileges cannot be gained", func(c *ContainerConfig) { c.Security.NoNewPrivileges = true }, "grep -e NoNewPrivs -e Seccomp: /proc/self/status", `NoNewPrivs:\t1\nSeccomp:\t2\n`},
		{"root can be written", yes, "touch /x && echo written", `^written\n$`},
		{"root cannot be written", func(c *ContainerConfig) { c.Security.ReadOnlyRoot = true }, "touch /x 2>/dev/null || echo refused; touch /dev/shm/x && echo shm", `refused\nshm\n$`},
		{"seccomp is on", yes, "grep Seccomp: /proc/self/status", `\t2\n`},
		{"seccomp is off", func(c *ContainerConfig) { c.Security.Seccomp = "Unconfined" }, "grep Seccomp: /proc/self/status", `\t0\n`},
		{"no new namespaces", yes, "unshare -U true 2>/dev/null || echo refused", `refused\n$`},
		{"no mounts", yes, "mount -t tmpfs none /tmp 2>/dev/null || echo refused", `refused\n$`},
		{"kernel settings are read-only", yes, "{ echo 1 > /proc/sys/net/ipv4/ip_forward; } 2>/dev/null || echo refused", `refused\n$`},
		{"masked files are empty", yes, "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware | wc -l", `^0\n0\n$`},
		{"unmasked", func(c *ContainerConfig) { c.Security.UnmaskedProc = true }, "grep -c . /proc/keys", `^[1-9]`},
		{"sysfs is read-only", yes, "grep ' /sys ' /proc/mounts", ` ro,`},
		{"only harmless devices", yes, "ls /dev | tr '\\n' ' '", `^(core )?fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero $`},
		{"no raw disk", yes, "mknod /disk b 254 0 2>/dev/null; cat /disk 2>&1 | head -c 100", `denied|not permitted|No such`},
		{"privileged", func(c *ContainerConfig) { c.Security.Privileged = true }, "mount -t tmpfs none /tmp && echo mounted; grep Seccomp: /proc/self/status; ls -d /dev/loop-control /dev/kmsg 2>/dev/null | head -n 1", `mounted\nSeccomp:\t0\n/dev/`},
		{"a working folder outside is refused", func(c *ContainerConfig) { c.Dir = "/proc/self/fd/7" }, "pwd", `^$`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := w.config(tt.script, tt.change)
			st, err := w.StartContainer(t.Context(), pod.Config.UID, cfg)
			out := ""
			if err == nil {
				st = w.exited(pod, st.ID)
				out = w.output(st)
			}
			if !regexp.MustCompile(tt.want).MatchString(out) {
				t.Errorf("got %q (exit code %d, %v), want %q", out, st.ExitCode, err, tt.want)
			}
		})
	}
}

// TestWorkingFolderTrick tries every inherited descriptor as the way out (CVE-2024-21626).
func TestWorkingFolderTrick(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	live := w.sh(pod, "sleep 1000")
	for fd := range 20 {
		cfg := w.config("ls -d ../../../../../../../work ../../../../../../../var/lib 2>/dev/null; pwd", func(c *ContainerConfig) { c.Dir = fmt.Sprintf("/proc/self/fd/%d", fd) })
		st, err := w.StartContainer(t.Context(), pod.Config.UID, cfg)
		if err != nil {
			continue
		}
		st = w.exited(pod, st.ID)
		if out := w.output(st); strings.Contains(out, "var/lib") || strings.Contains(out, "work") {
			t.Errorf("descriptor %d leads out: %q", fd, out)
		}
	}
	if _, out := w.exec(pod, live.ID, "for i in 3 4 5 6 7 8 9 10 11 12; do readlink /proc/self/fd/$i; done"); strings.TrimSpace(out) != "" && strings.TrimSpace(out) != "/proc" {
		t.Errorf("an exec inherits %q", out)
	}
}

func TestSysctls(t *testing.T) {
	w := newWorld(t)
	pod := w.pod(func(p *PodConfig) {
		p.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "77", "kernel.shm_rmid_forced": "1"}
	})
	_, out := w.run(pod, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced")
	if out != "77\n1\n" {
		t.Errorf("got %q", out)
	}
	for _, name := range []string{"kernel.panic", "vm.swappiness", "net/../kernel/panic", "kernel.shm/../panic"} {
		before, _ := os.ReadFile("/proc/sys/kernel/panic")
		_, err := w.EnsurePod(t.Context(), PodConfig{UID: "bad", Namespace: "test", Name: "bad", CgroupParent: w.cg + "/bad", Sysctls: map[string]string{name: "5"}})
		if err == nil || !strings.Contains(err.Error(), "sysctl") {
			t.Errorf("%s: %v", name, err)
		}
		if after, _ := os.ReadFile("/proc/sys/kernel/panic"); string(after) != string(before) {
			t.Fatalf("%s changed the node", name)
		}
		if _, ok, _ := w.Pod(t.Context(), "bad"); ok {
			if err := w.RemovePod(t.Context(), "bad"); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestHostNamespaces(t *testing.T) {
	w := newWorld(t)
	pod := w.pod(func(p *PodConfig) { p.HostNetwork, p.HostPID, p.HostIPC = true, true, true })
	if len(pod.IPs) != 0 {
		t.Errorf("addresses %v", pod.IPs)
	}
	st := w.sh(pod, "sleep 1000 & echo $!; sleep 1000")
	for _, kind := range []string{"net", "ipc", "uts", "pid"} {
		if nsOf(t, st.Pid, kind) != nsOf(t, os.Getpid(), kind) {
			t.Errorf("%s namespace is not the host's", kind)
		}
	}
	var child int
	eventually(t, "it says its child", func() bool { n, _ := fmt.Sscan(w.output(st), &child); return n == 1 })
	// An orphan comes to the supervisor, which collects it.
	orphan := 0
	_, out := w.exec(pod, st.ID, "sleep 0.1 & echo $!")
	if _, err := fmt.Sscan(out, &orphan); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the orphan is collected", func() bool { _, err := os.Stat(fmt.Sprintf("/proc/%d", orphan)); return os.IsNotExist(err) })
	// Ending the first process ends all of them, although no namespace does.
	if err := w.SignalContainer(t.Context(), pod.Config.UID, st.ID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.exited(pod, st.ID)
	eventually(t, "the child is killed and collected", func() bool { _, err := os.Stat(fmt.Sprintf("/proc/%d", child)); return os.IsNotExist(err) })
}

func TestSharedProcesses(t *testing.T) {
	w := newWorld(t)
	pod := w.pod(func(p *PodConfig) { p.ShareProcess = true })
	a := w.sh(pod, "sleep 4321")
	b := w.sh(pod, "sleep 1234 & sleep 1234")
	_, out := w.exec(pod, a.ID, "ps -o pid,args")
	for _, want := range []string{"1 pause pause", "sleep 4321", "sleep 1234"} {
		if !strings.Contains(out, want) {
			t.Errorf("processes lack %q: %s", want, out)
		}
	}
	if err := w.SignalContainer(t.Context(), pod.Config.UID, b.ID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.exited(pod, b.ID)
	eventually(t, "all of b is gone", func() bool {
		_, out := w.exec(pod, a.ID, "ps -o args")
		return !strings.Contains(out, "sleep 1234") && strings.Contains(out, "sleep 4321")
	})
}

func TestMounts(t *testing.T) {
	w := newWorld(t)
	pod := w.pod()
	vol := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(vol, "file"), []byte("content"), 0o644))
	must(os.MkdirAll(filepath.Join(vol, "sub"), 0o755))
	must(os.WriteFile(filepath.Join(vol, "sub", "inner"), []byte("inner"), 0o644))
	must(os.Symlink("/etc", filepath.Join(vol, "escape")))
	must(os.Symlink("../../../../../../etc", filepath.Join(vol, "climb")))
	tests := []struct {
		name   string
		mount  Mount
		script string
		want   string
	}{
		{"a folder", Mount{Source: vol, Target: "/data"}, "cat /data/file; touch /data/new && echo ok", "contentok\n"},
		{"read-only", Mount{Source: vol, Target: "/data", ReadOnly: true}, "touch /data/x 2>/dev/null || echo refused", "refused\n"},
		{"a file", Mount{Source: filepath.Join(vol, "file"), Target: "/etc/hosts"}, "cat /etc/hosts", "content"},
		{"deep below a folder that is not there", Mount{Source: vol, Target: "/a/b/c"}, "cat /a/b/c/file", "content"},
		{"memory", Mount{Source: "tmpfs", Target: "/scratch", Options: []string{"size=1m", "mode=1777"}}, "grep -c '/scratch tmpfs.*size=1024k' /proc/mounts", "1\n"},
		{"a sub-path", Mount{Source: vol, Target: "/data", SubPath: "sub"}, "cat /data/inner", "inner"},
		{"a file as sub-path", Mount{Source: vol, Target: "/data", SubPath: "sub/inner"}, "cat /data", "inner"},
		{"a new sub-path", Mount{Source: vol, Target: "/data", SubPath: "made/for/it"}, "touch /data/here && echo ok", "ok\n"},
		{"a sub-path that is a link to the host", Mount{Source: vol, Target: "/data", SubPath: "escape"}, "cat /data/passwd 2>/dev/null | wc -c", "0\n"},
		{"a sub-path that climbs", Mount{Source: vol, Target: "/data", SubPath: "climb"}, "cat /data/passwd 2>/dev/null | wc -c", "0\n"},
		{"a sub-path with dots", Mount{Source: vol, Target: "/data", SubPath: "../../../../etc"}, "cat /data/passwd 2>/dev/null | wc -c", "0\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := w.config(tt.script, func(c *ContainerConfig) { c.Mounts = []Mount{tt.mount} })
			st, err := w.StartContainer(t.Context(), pod.Config.UID, cfg)
			if err != nil {
				if !strings.Contains(tt.name, "link") && !strings.Contains(tt.name, "climbs") {
					t.Fatal(err)
				}
				return // refused altogether
			}
			st = w.exited(pod, st.ID)
			if out := w.output(st); out != tt.want {
				t.Errorf("got %q, want %q", out, tt.want)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(vol, "made/for/it/here")); err != nil {
		t.Error(err)
	}
}

// TestLateMount mounts a volume after the sandbox was made, as the node agent may.
func TestLateMount(t *testing.T) {
	w := newWorld(t)
	vol := t.TempDir()
	pod := w.pod()
	if err := unix.Mount("none", vol, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(vol, unix.MNT_DETACH) }) // done already, if all went well
	if err := os.WriteFile(filepath.Join(vol, "late"), []byte("seen"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, out := w.run(pod, "cat /vol/late", func(c *ContainerConfig) { c.Mounts = []Mount{{Source: vol, Target: "/vol"}} }); out != "seen" {
		t.Errorf("got %q", out)
	}
	// Nobody but the container may have held on to it.
	if err := unix.Unmount(vol, 0); err != nil {
		t.Errorf("unmount: %v", err)
	}
}

// TestMountPropagation mounts on the host below a volume, and in a container below another.
func TestMountPropagation(t *testing.T) {
	w := newWorld(t)
	vol := t.TempDir()
	for _, err := range []error{
		unix.Mount(vol, vol, "", unix.MS_BIND, ""), unix.Mount("", vol, "", unix.MS_SHARED, ""),
		os.Mkdir(filepath.Join(vol, "host"), 0o755), os.Mkdir(filepath.Join(vol, "inner"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, at := range []string{"host", "inner", "."} {
			_ = unix.Unmount(filepath.Join(vol, at), unix.MNT_DETACH) // not there if the test failed early
		}
	})
	pod := w.pod()
	with := func(p string, privileged bool) func(*ContainerConfig) {
		return func(c *ContainerConfig) {
			c.Mounts, c.Security.Privileged = []Mount{{Source: vol, Target: "/vol", Propagation: p}}, privileged
		}
	}
	none := w.sh(pod, "sleep 1000", with("", false))
	slave := w.sh(pod, "sleep 1000", with("rslave", false))
	shared := w.sh(pod, "sleep 1000", with("rshared", true))
	if err := unix.Mount("none", filepath.Join(vol, "host"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(vol, "host", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]int{none.ID: 1, slave.ID: 0, shared.ID: 0} {
		if code, _ := w.exec(pod, id, "test -e /vol/host/x"); code != want {
			t.Errorf("mount of the host in %s: exit code %d, want %d", id, code, want)
		}
	}
	if code, out := w.exec(pod, shared.ID, "mount -t tmpfs none /vol/inner && touch /vol/inner/y"); code != 0 {
		t.Fatal(out)
	}
	if _, err := os.Stat(filepath.Join(vol, "inner", "y")); err != nil {
		t.Errorf("mount of the container on the host: %v", err)
	}
	// The end of the pod takes no mount of the host down.
	if err := w.RemovePod(t.Context(), pod.Config.UID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(vol, "host", "x")); err != nil {
		t.Errorf("mount of the host after the pod: %v", err)
	}
}
