// Package local gives a pod a folder of this node through a claim: a PersistentVolume of type local, whose node affinity
// has brought the pod here.
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

// SetUp checks that the folder is there. It is never made: a missing one is a disk that is not mounted.
func (Type) SetUp(_ context.Context, r volume.Request) (string, error) {
	path := r.PV.Spec.Local.Path
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("local volume %s: %w", r.PV.Name, err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("local volume %s: %s is not a directory; block devices are not supported by this node", r.PV.Name, path)
	}
	if g := r.FSGroup(); g != nil && !r.ReadOnly {
		return path, volume.Own(path, *g, false, r.OnRootMismatch())
	}
	return path, nil
}
