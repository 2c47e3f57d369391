// Package hostpath gives a pod a path of the node.
package hostpath

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"hardway/nodeagent/volume"
)

// Type is the hostPath volume type.
type Type struct{}

// Name implements volume.Type.
func (Type) Name() string { return "kubernetes.io~host-path" }

// Handles implements volume.Type.
func (Type) Handles(r volume.Request) bool { return r.Volume.HostPath != nil }

// SetUp checks that the path is what the volume's type field says, making it where the type asks for that.
func (Type) SetUp(_ context.Context, r volume.Request) (string, error) {
	path := r.Volume.HostPath.Path
	kind := corev1.HostPathUnset
	if r.Volume.HostPath.Type != nil {
		kind = *r.Volume.HostPath.Type
	}
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return path, create(path, kind)
	}
	if err != nil {
		return "", err
	}
	if want, ok := checks[kind]; !ok {
		return "", fmt.Errorf("hostPath type %q is unknown", kind)
	} else if want.is != nil && !want.is(info.Mode()) {
		return "", fmt.Errorf("hostPath type check failed: %s is not %s", path, want.name)
	}
	return path, nil
}

// checks says what must be at the path for each type; nil means anything.
var checks = map[corev1.HostPathType]struct {
	name string
	is   func(os.FileMode) bool
}{
	corev1.HostPathUnset:             {"anything", nil},
	corev1.HostPathDirectoryOrCreate: {"a directory", os.FileMode.IsDir},
	corev1.HostPathDirectory:         {"a directory", os.FileMode.IsDir},
	corev1.HostPathFileOrCreate:      {"a file", os.FileMode.IsRegular},
	corev1.HostPathFile:              {"a file", os.FileMode.IsRegular},
	corev1.HostPathSocket:            {"a socket file", func(m os.FileMode) bool { return m&os.ModeSocket != 0 }},
	corev1.HostPathCharDev:           {"a character device", func(m os.FileMode) bool { return m&os.ModeCharDevice != 0 }},
	corev1.HostPathBlockDev: {"a block device", func(m os.FileMode) bool {
		return m&os.ModeDevice != 0 && m&os.ModeCharDevice == 0
	}},
}

// create makes what is missing. Without a type a folder is made, as container runtimes do for a missing bind source.
func create(path string, kind corev1.HostPathType) error {
	switch kind {
	case corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate:
		return os.MkdirAll(path, 0o755)
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	default:
		return fmt.Errorf("hostPath type check failed: %s is not %s", path, checks[kind].name)
	}
}
