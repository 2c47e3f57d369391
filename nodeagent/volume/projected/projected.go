// Package projected shows several sources in one folder: ConfigMaps, Secrets, the downward API, and service account
// tokens.
package projected

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"

	corev1 "k8s.io/api/core/v1"

	"hardway/nodeagent/podsource/fields"
	"hardway/nodeagent/volume"
	"hardway/nodeagent/volume/atomicdir"
	"hardway/nodeagent/volume/payload"
)

// Tokens issues service account tokens that are bound to a pod.
type Tokens interface {
	// Token returns a token for the pod, fresh enough for the source's expiry, from a cache where that holds.
	Token(ctx context.Context, pod *corev1.Pod, source *corev1.ServiceAccountTokenProjection) (string, error)
}

// Type is the projected volume type.
type Type struct {
	Objects payload.Objects
	Node    func() fields.Node
	Tokens  Tokens
}

// Name implements volume.Type.
func (Type) Name() string { return "kubernetes.io~projected" }

// Handles implements volume.Type.
func (Type) Handles(r volume.Request) bool { return r.Volume.Projected != nil }

// SetUp writes the files of all sources into a tmpfs. All sources must be there, or nothing is written.
func (t Type) SetUp(ctx context.Context, r volume.Request) (string, error) {
	files := payload.Files{}
	var errs []error
	for i := range r.Volume.Projected.Sources {
		part, err := t.source(ctx, r, &r.Volume.Projected.Sources[i])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		maps.Copy(files, part)
	}
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	if err := volume.MountMemory(r.Dir, volume.SmallMemory); err != nil {
		return "", err
	}
	_, err := atomicdir.Write(r.Dir, files, r.FSGroup())
	return r.Dir, err
}

func (t Type) source(ctx context.Context, r volume.Request, s *corev1.VolumeProjection) (payload.Files, error) {
	mode := r.Volume.Projected.DefaultMode
	switch {
	case s.ConfigMap != nil:
		return payload.ConfigMap(ctx, t.Objects, r.Pod.Namespace, s.ConfigMap.Name, s.ConfigMap.Items, mode, s.ConfigMap.Optional)
	case s.Secret != nil:
		return payload.Secret(ctx, t.Objects, r.Pod.Namespace, s.Secret.Name, s.Secret.Items, mode, s.Secret.Optional)
	case s.DownwardAPI != nil:
		return payload.Downward(r.Pod, t.Node(), s.DownwardAPI.Items, mode)
	case s.ServiceAccountToken != nil:
		token, err := t.Tokens.Token(ctx, r.Pod, s.ServiceAccountToken)
		if err != nil {
			return nil, err
		}
		f := atomicdir.File{Data: []byte(token), Mode: payload.DefaultMode}
		if mode != nil {
			f.Mode = os.FileMode(*mode)
		}
		if r.FSGroup() == nil {
			// As upstream: a token is private unless a group must read it; one common user may own it.
			f.Mode, f.Owner = 0o600, commonUser(r.Pod)
			if f.Owner == nil {
				f.Mode = payload.DefaultMode
			}
		}
		return payload.Files{s.ServiceAccountToken.Path: f}, nil
	case s.ClusterTrustBundle != nil:
		return nil, fmt.Errorf("projected source clusterTrustBundle is not supported by this node")
	case s.PodCertificate != nil:
		return nil, fmt.Errorf("projected source podCertificate is not supported by this node")
	default:
		return nil, fmt.Errorf("projected source is of an unknown kind")
	}
}

// commonUser is the user that all containers of the pod run as, nil if they differ or it is not said.
func commonUser(pod *corev1.Pod) *int64 {
	var user *int64
	if s := pod.Spec.SecurityContext; s != nil {
		user = s.RunAsUser
	}
	var common *int64
	for i := range pod.Spec.Containers {
		u := user
		if s := pod.Spec.Containers[i].SecurityContext; s != nil && s.RunAsUser != nil {
			u = s.RunAsUser
		}
		if u == nil || common != nil && *common != *u {
			return nil
		}
		common = u
	}
	return common
}
