// Package nfs mounts a folder of an NFS server by the kernel's own client: no mount.nfs helper is needed. NFS 4 is asked
// for unless the volume's mount options say otherwise (nfsvers=3 works where the server's mountd can be reached).
package nfs

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hardway/nodeagent/volume"
)

// Type is the nfs volume type.
type Type struct{}

// Name implements volume.Type.
func (Type) Name() string { return "kubernetes.io~nfs" }

// Handles implements volume.Type.
func (Type) Handles(r volume.Request) bool { return r.Volume.NFS != nil }

// SetUp mounts the folder. A server that does not answer blocks this call only; ctx gives it up for the pod while the
// kernel goes on trying.
func (Type) SetUp(ctx context.Context, r volume.Request) (string, error) {
	if mounted, err := volume.Mounted(r.Dir); err != nil || mounted {
		return r.Dir, err
	}
	if err := os.MkdirAll(r.Dir, 0o750); err != nil {
		return "", err
	}
	source := r.Volume.NFS
	addresses, err := net.DefaultResolver.LookupHost(ctx, source.Server)
	if err != nil {
		return "", fmt.Errorf("nfs server %s: %w", source.Server, err)
	}
	flags, options := mountOptions(r, addresses[0])
	done := make(chan error, 1)
	go func() { // ends when the kernel has an answer
		done <- unix.Mount(source.Server+":"+source.Path, r.Dir, fsType(options), flags, options)
	}()
	select {
	case err := <-done:
		if err != nil {
			return "", fmt.Errorf("mount nfs %s:%s: %w", source.Server, source.Path, err)
		}
		return r.Dir, nil
	case <-ctx.Done():
		return "", fmt.Errorf("mount nfs %s:%s: %w", source.Server, source.Path, context.Cause(ctx))
	}
}

// flagsByName are mount options that the kernel takes as flags, not as text.
var flagsByName = map[string]uintptr{
	"ro": unix.MS_RDONLY, "rw": 0, "noexec": unix.MS_NOEXEC, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noatime": unix.MS_NOATIME,
	"nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME, "sync": unix.MS_SYNCHRONOUS, "defaults": 0, "_netdev": 0,
}

// mountOptions are the volume's own, with the server's address and a version where they name none.
func mountOptions(r volume.Request, server string) (uintptr, string) {
	var flags uintptr
	var text []string
	if r.Volume.NFS.ReadOnly || r.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	var wishes []string
	if r.PV != nil {
		wishes = r.PV.Spec.MountOptions
	}
	versioned := false
	for _, list := range wishes {
		for o := range strings.SplitSeq(list, ",") {
			if f, ok := flagsByName[o]; ok {
				flags |= f
				continue
			}
			versioned = versioned || strings.HasPrefix(o, "vers=") || strings.HasPrefix(o, "nfsvers=")
			text = append(text, o)
		}
	}
	if !versioned {
		text = append(text, "vers=4.2")
	}
	text = append(text, "addr="+server)
	if slices.ContainsFunc(text, isVersion3) {
		text = append(text, "mountaddr="+server, "nolock")
	}
	return flags, strings.Join(text, ",")
}

func isVersion3(o string) bool { return o == "vers=3" || o == "nfsvers=3" }

func fsType(options string) string {
	if slices.ContainsFunc(strings.Split(options, ","), isVersion3) {
		return "nfs"
	}
	return "nfs4"
}
