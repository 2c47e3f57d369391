package server

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"hardway/nodeagent/podworker/pull"
	"hardway/shared/client"
)

// claims looks up claims and volumes for the volume types. A node may read those that its pods use, one by one.
type claims struct{ *agent }

// Claim implements volume.Claims.
func (c claims) Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	return client.PersistentVolumeClaims.Get(ctx, c.api, namespace, name)
}

// Volume implements volume.Claims.
func (c claims) Volume(ctx context.Context, name string) (*corev1.PersistentVolume, error) {
	return client.PersistentVolumes.Get(ctx, c.api, "", name)
}

// NodeLabels implements volume.Claims.
func (c claims) NodeLabels() map[string]string {
	if n := c.object(); n != nil {
		return n.Labels
	}
	return nil
}

// volumeImages gets images for volumes as containers get theirs.
type volumeImages struct{ *agent }

// Pull implements imagevolume.Images.
func (v volumeImages) Pull(ctx context.Context, pod *corev1.Pod, volume, ref string, policy corev1.PullPolicy) (string, error) {
	var secrets []*corev1.Secret
	for _, s := range pod.Spec.ImagePullSecrets {
		if secret, err := v.objects.Secret(ctx, pod.Namespace, s.Name); err == nil {
			secrets = append(secrets, secret)
		}
	}
	auth, err := pull.Keychain(secrets)
	if err != nil {
		return "", err
	}
	img, err := v.puller.Ensure(ctx, pod, &corev1.Container{Name: volume, Image: ref, ImagePullPolicy: policy}, auth,
		func(eventtype, reason, format string, args ...any) {
			v.note(pod, nil, eventtype, reason, format, args...)
		})
	return img.ID, err
}

// Use implements imagevolume.Images.
func (v volumeImages) Use(id, holder string) ([]string, error) { return v.images.store.Use(id, holder) }

// Release implements imagevolume.Images.
func (v volumeImages) Release(holder string) error { return v.images.store.Release(holder) }

// handler reads the handler that a RuntimeClass names.
func (a *agent) handler(ctx context.Context, runtimeClass string) (string, error) {
	c, err := client.RuntimeClasses.Get(ctx, a.api, "", runtimeClass)
	if err != nil {
		return "", err
	}
	return c.Handler, nil
}
