// Package secret shows the keys of a Secret as files, in memory only.
package secret

import (
	"context"

	"hardway/nodeagent/volume"
	"hardway/nodeagent/volume/atomicdir"
	"hardway/nodeagent/volume/payload"
)

// Type is the secret volume type.
type Type struct{ Objects payload.Objects }

// Name implements volume.Type.
func (Type) Name() string { return "kubernetes.io~secret" }

// Handles implements volume.Type.
func (Type) Handles(r volume.Request) bool { return r.Volume.Secret != nil }

// SetUp writes the files into a tmpfs, and rewrites them when the Secret has changed.
func (t Type) SetUp(ctx context.Context, r volume.Request) (string, error) {
	s := r.Volume.Secret
	files, err := payload.Secret(ctx, t.Objects, r.Pod.Namespace, s.SecretName, s.Items, s.DefaultMode, s.Optional)
	if err != nil {
		return "", err
	}
	if err := volume.MountMemory(r.Dir, volume.SmallMemory); err != nil {
		return "", err
	}
	_, err = atomicdir.Write(r.Dir, files, r.FSGroup())
	return r.Dir, err
}
