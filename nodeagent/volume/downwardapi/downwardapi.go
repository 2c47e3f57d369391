// Package downwardapi shows fields and resources of the pod itself as files.
package downwardapi

import (
	"context"

	"hardway/nodeagent/podsource/fields"
	"hardway/nodeagent/volume"
	"hardway/nodeagent/volume/atomicdir"
	"hardway/nodeagent/volume/payload"
)

// Type is the downwardAPI volume type.
type Type struct{ Node func() fields.Node }

// Name implements volume.Type.
func (Type) Name() string { return "kubernetes.io~downward-api" }

// Handles implements volume.Type.
func (Type) Handles(r volume.Request) bool { return r.Volume.DownwardAPI != nil }

// SetUp writes the files, and rewrites them when the pod's labels or annotations have changed.
func (t Type) SetUp(_ context.Context, r volume.Request) (string, error) {
	d := r.Volume.DownwardAPI
	files, err := payload.Downward(r.Pod, t.Node(), d.Items, d.DefaultMode)
	if err != nil {
		return "", err
	}
	_, err = atomicdir.Write(r.Dir, files, r.FSGroup())
	return r.Dir, err
}
