package main

import (
	"slices"
	"testing"
)

func TestOurs(t *testing.T) {
	dirs := []string{"/src/.hardway", "/run/hardway"}
	for _, row := range []struct {
		name, exe, command, groups string
		want                       bool
	}{
		{"a daemon", "/src/.hardway/bin/hardway-dns", "/src/.hardway/bin/hardway-dns\x00", "", true},
		{"a daemon whose program was built anew", "/src/.hardway/bin/hardway-dns (deleted)", "", "", true},
		{"another checkout's daemon", "/other/.hardway/bin/hardway-dns", "", "", false},
		{"a folder that only begins alike", "/src/.hardway-old/bin/hardway-dns", "", "", false},
		{"kubectl, which the user may be using", "/src/.hardway/bin/kubectl", "kubectl\x00get\x00pods\x00", "", false},
		{"a supervisor", "/bin/dash", "/bin/sh\x00/src/scripts/supervise.sh\x00/src/.hardway\x00dns\x00", "", true},
		{"another cluster's supervisor", "/bin/dash", "/bin/sh\x00/src/scripts/supervise.sh\x00/other\x00dns\x00", "", false},
		{"a container, cgroup v1", "/hello", "/hello\x00", "7:memory:/hardway/burstable/pod1/c\n0::/\n", true},
		{"a container, cgroup v2", "/hello", "/hello\x00", "0::/hardway/pod1/c\n", true},
		{"some other container", "/hello", "/hello\x00", "0::/docker/pod1/hardway\n", false},
		{"gone meanwhile", "", "", "", false},
	} {
		if got := ours(row.exe, []byte(row.command), []byte(row.groups), dirs); got != row.want {
			t.Errorf("%s: ours is %v, want %v", row.name, got, row.want)
		}
	}
}

func TestMountsBelow(t *testing.T) {
	const mountinfo = `22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
29 22 0:25 / /run/hardway rw shared:8 - tmpfs none rw
30 22 0:26 / /run/hardway/netns/a rw shared:9 - nsfs nsfs rw
31 22 0:27 / /src/.hardway/node/pods/1/rootfs rw - overlay overlay rw
32 22 0:28 / /src/.hardway2/rootfs rw - overlay overlay rw
`
	want := []string{"mount /run/hardway/netns/a", "mount /src/.hardway/node/pods/1/rootfs"}
	if got := mountsBelow([]byte(mountinfo), []string{"/src/.hardway", "/run/hardway"}); !slices.Equal(got, want) {
		t.Errorf("mounts %q, want %q", got, want)
	}
}

func TestEnded(t *testing.T) {
	for stat, want := range map[string]bool{"7 (a) Z) S 1 7": false, "7 (a) Z 1 7": true, "7 (dns) R 1": false, "": false} {
		if got := ended(stat); got != want {
			t.Errorf("ended(%q) is %v", stat, got)
		}
	}
}
