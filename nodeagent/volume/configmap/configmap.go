// Package configmap shows the keys of a ConfigMap as files.
package configmap

import (
	"context"

	"hardway/nodeagent/volume"
	"hardway/nodeagent/volume/atomicdir"
	"hardway/nodeagent/volume/payload"
)

// Type is the configMap volume type.
type Type struct{ Objects payload.Objects }

// Name implements volume.Type.
func (Type) Name() string { return "kubernetes.io~configmap" }

// Handles implements volume.Type.
func (Type) Handles(r volume.Request) bool { return r.Volume.ConfigMap != nil }

// SetUp writes the files, and rewrites them when the ConfigMap has changed.
func (t Type) SetUp(ctx context.Context, r volume.Request) (string, error) {
	c := r.Volume.ConfigMap
	files, err := payload.ConfigMap(ctx, t.Objects, r.Pod.Namespace, c.Name, c.Items, c.DefaultMode, c.Optional)
	if err != nil {
		return "", err
	}
	_, err = atomicdir.Write(r.Dir, files, r.FSGroup())
	return r.Dir, err
}
