// Package local gives a pod a folder or a block device of this node through a claim: a PersistentVolume of type local,
// whose node affinity has brought the pod here.
package local

import (
	"context"
	"fmt"
	"os"

	"hardway/nodeagent/volume"
)

// Type is the local volume type.
type Type struct{}

// Name implements volume.Type.
func (Type) Name() string { return "kubernetes.io~local-volume" }

// Handles implements volume.Type.
func (Type) Handles(r volume.Request) bool { return r.PV != nil && r.PV.Spec.Local != nil }

// SetUp checks that the folder or device is there. It is never made: a missing one is a disk that is not mounted.
func (Type) SetUp(_ context.Context, r volume.Request) (string, error) {
	path := r.PV.Spec.Local.Path
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("local volume %s: %w", r.PV.Name, err)
	}
	if r.Block {
		if info.Mode()&os.ModeDevice == 0 || info.Mode()&os.ModeCharDevice != 0 {
			return "", fmt.Errorf("local volume %s: %s is not a block device", r.PV.Name, path)
		}
		return path, nil
	}
	if !info.IsDir() {
		return "", fmt.Errorf("local volume %s: %s is not a directory", r.PV.Name, path)
	}
	if g := r.FSGroup(); g != nil && !r.ReadOnly {
		return path, volume.Own(path, *g, false, r.OnRootMismatch())
	}
	return path, nil
}
