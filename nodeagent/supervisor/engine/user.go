package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// maxUserFile bounds how much of an image's /etc/passwd and /etc/group is read.
const maxUserFile = 4 << 20

// resolveUser finds the numbers for who, which is "", "user" or "user:group", each a name or a number, in the passwd
// and group files below root. The groups that the image gives the user come along unless strict, and so do extra ones.
func resolveUser(root, who string, extra []int64, strict bool) (specs.User, error) {
	passwd, err := openUserFile(root, "/etc/passwd")
	if err != nil {
		return specs.User{}, err
	}
	defer passwd.Close()
	group, err := openUserFile(root, "/etc/group")
	if err != nil {
		return specs.User{}, err
	}
	defer group.Close()
	name, groupName, _ := strings.Cut(who, ":")
	u, err := user.GetExecUser(name, &user.ExecUser{}, io.LimitReader(passwd, maxUserFile), io.LimitReader(group, maxUserFile))
	if err != nil {
		return specs.User{}, fmt.Errorf("user %q: %w", who, err)
	}
	if groupName != "" {
		// Looked up apart, because asking for a group by name must not lose the user's other groups.
		gids, err := lookUpGroup(root, groupName)
		if err != nil {
			return specs.User{}, fmt.Errorf("group %q: %w", groupName, err)
		}
		u.Gid = gids
	}
	out := specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid)}
	if strict {
		u.Sgids = nil
	}
	for _, g := range u.Sgids {
		out.AdditionalGids = append(out.AdditionalGids, uint32(g))
	}
	for _, g := range extra {
		if g < 0 || g > 1<<32-1 {
			return specs.User{}, fmt.Errorf("group %d is out of range", g)
		}
		out.AdditionalGids = append(out.AdditionalGids, uint32(g))
	}
	// The primary group is one of them, so that no file's rights for others apply to it by setting another primary group.
	out.AdditionalGids = append(out.AdditionalGids, out.GID)
	slices.Sort(out.AdditionalGids)
	out.AdditionalGids = slices.Compact(out.AdditionalGids)
	return out, nil
}

func lookUpGroup(root, name string) (int, error) {
	group, err := openUserFile(root, "/etc/group")
	if err != nil {
		return 0, err
	}
	defer group.Close()
	gids, err := user.GetAdditionalGroups([]string{name}, io.LimitReader(group, maxUserFile))
	if err != nil {
		return 0, err
	}
	return gids[0], nil
}

// openUserFile opens a file of the image without following links out of it. One that is missing is empty.
func openUserFile(root, path string) (io.ReadCloser, error) {
	h, err := pathrs.OpenInRoot(root, path)
	if errors.Is(err, os.ErrNotExist) {
		return io.NopCloser(strings.NewReader("")), nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s of the image: %w", path, err)
	}
	defer h.Close()
	if st, err := h.Stat(); err != nil || !st.Mode().IsRegular() {
		return io.NopCloser(strings.NewReader("")), nil // a device or pipe there must not hang us
	}
	f, err := pathrs.Reopen(h, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("open %s of the image: %w", path, err)
	}
	return f, nil
}
