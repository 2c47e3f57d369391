// Package serviceaccount gives every new pod a service account: the namespace's default one unless it names another,
// which must exist. A pod without image pull secrets gets those of its account, and every container a token of the
// account at /var/run/secrets/kubernetes.io/serviceaccount, unless pod or account say no or something else is there.
package serviceaccount

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/apiserver/admission"
	"hardway/apiserver/resource"
)

// Accounts looks up a service account; a registry does.
type Accounts interface {
	Find(ctx context.Context, namespace, name string) (resource.Object, error)
}

// Plugin is the plugin.
type Plugin struct {
	Accounts Accounts
	// NoTokens says that the server issues none: then none are mounted.
	NoTokens bool
}

// defaultName is the account that every namespace gets from the controllers.
const defaultName = "default"

// A new namespace has its default account only after a moment, for which a pod waits.
const (
	attempts      = 10
	betweenAgains = 100 * time.Millisecond
)

// Name is upstream's.
func (Plugin) Name() string { return "ServiceAccount" }

// Mutate sets the account of a new pod.
func (p Plugin) Mutate(ctx context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Operation != admission.Create || a.Subresource != "" {
		return nil
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return checkMirror(a, pod)
	}
	spec := &pod.Spec
	if spec.ServiceAccountName == "" {
		spec.ServiceAccountName = defaultName
	}
	spec.DeprecatedServiceAccount = spec.ServiceAccountName
	account, err := p.find(ctx, a.Namespace, spec.ServiceAccountName)
	if err != nil {
		return admission.Forbid(a, "error looking up service account %s/%s: %w", a.Namespace, spec.ServiceAccountName, err)
	}
	if len(spec.ImagePullSecrets) == 0 {
		spec.ImagePullSecrets = slices.Clone(account.ImagePullSecrets)
	}
	if account.Annotations[enforce] == "true" {
		if err := mountable(a, pod, account); err != nil {
			return err
		}
	}
	if !p.NoTokens && wantsToken(pod, account) {
		mountToken(pod)
	}
	return nil
}

// checkMirror: a mirror pod only shows what a node runs without the API; the node has no accounts to give it.
func checkMirror(a *admission.Attributes, pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName != "" {
		return admission.Forbid(a, "a mirror pod may not reference service accounts")
	}
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil {
				return admission.Forbid(a, "a mirror pod may not use ServiceAccountToken volume projections")
			}
		}
	}
	return nil
}

func (p Plugin) find(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	for i := 1; ; i++ {
		obj, err := p.Accounts.Find(ctx, namespace, name)
		if err == nil {
			account, ok := obj.(*corev1.ServiceAccount)
			if !ok {
				return nil, fmt.Errorf("%T is not a service account", obj)
			}
			return account, nil
		}
		if !apierrors.IsNotFound(err) || name != defaultName || i == attempts {
			return nil, err
		}
		select {
		case <-time.After(betweenAgains):
		case <-ctx.Done():
			return nil, err
		}
	}
}
