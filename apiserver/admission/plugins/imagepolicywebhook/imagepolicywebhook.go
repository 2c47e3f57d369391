// Package imagepolicywebhook asks a server whether the images of a pod may run. When the server cannot be asked, the
// configuration says whether they may.
package imagepolicywebhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	imagepolicyv1alpha1 "k8s.io/api/imagepolicy/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/request"
	"hardway/apiserver/review"
)

const (
	name = "ImagePolicyWebhook"
	// notes begin the keys of what is noted for the audit log; marks of pods with ownMark are sent to the server.
	notes   = "imagepolicywebhook.image-policy.k8s.io/"
	ownMark = ".image-policy.k8s.io/"
	// remembered is how many answers are remembered.
	remembered = 1024
)

// Plugin is the plugin.
type Plugin struct {
	client           *review.Client
	answers          *review.Answers[imagepolicyv1alpha1.ImageReviewStatus]
	allowed, refused time.Duration // how long answers hold
	open             bool
	now              func() time.Time
}

// New makes the plugin, which needs a configuration.
func New(conf admission.Config) (*Plugin, error) {
	var c struct {
		ImagePolicy struct {
			Kubeconfig   string `json:"kubeConfigFile"`
			AllowTTL     int64  `json:"allowTTL"`     // seconds
			DenyTTL      int64  `json:"denyTTL"`      // seconds
			RetryBackoff int64  `json:"retryBackoff"` // milliseconds
			DefaultAllow bool   `json:"defaultAllow"`
		} `json:"imagePolicy"`
	}
	if err := conf.Decode(name, "", &c); err != nil {
		return nil, err
	}
	wrong := func(err error) error { return fmt.Errorf("configuration of the admission plugin %s: %w", name, err) }
	said := c.ImagePolicy
	p := &Plugin{open: said.DefaultAllow, answers: review.NewAnswers[imagepolicyv1alpha1.ImageReviewStatus](remembered), now: time.Now}
	var wait time.Duration
	var errs [4]error
	p.allowed, errs[0] = duration("allowTTL", said.AllowTTL, time.Second, 5*time.Minute, 30*time.Minute)
	p.refused, errs[1] = duration("denyTTL", said.DenyTTL, time.Second, 30*time.Second, 30*time.Minute)
	wait, errs[2] = duration("retryBackoff", said.RetryBackoff, time.Millisecond, review.DefaultWait, 5*time.Minute)
	if said.Kubeconfig == "" {
		errs[3] = errors.New("kubeConfigFile is needed")
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, wrong(err)
	}
	var err error
	if p.client, err = review.Open(said.Kubeconfig, wait, 0); err != nil {
		return nil, wrong(err)
	}
	return p, nil
}

// duration reads a number of units: 0 is the default, -1 none.
func duration(field string, n int64, unit, byDefault, most time.Duration) (time.Duration, error) {
	switch {
	case n == 0:
		return byDefault, nil
	case n == -1:
		return 0, nil
	case n < 0 || n > int64(most/unit):
		return 0, fmt.Errorf("%s: valid value is between %v and %v", field, unit, most)
	}
	return time.Duration(n) * unit, nil
}

// Name is upstream's.
func (*Plugin) Name() string { return name }

// Validate asks about the images of a pod.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Operation != admission.Create && a.Operation != admission.Update || a.Subresource != "" && a.Subresource != "ephemeralcontainers" {
		return nil
	}
	q := question(pod, a)
	text, err := json.Marshal(q.Spec)
	if err != nil {
		return err
	}
	status, known := p.answers.Get(text, p.now())
	if !known {
		if err := p.client.Ask(ctx, q, q); err != nil {
			if p.open {
				request.Annotate(ctx, notes+"failed-open", "true")
				return nil
			}
			return admission.Forbid(a, "%w", err)
		}
		status = q.Status
		holds := p.refused
		if status.Allowed {
			holds = p.allowed
		}
		p.answers.Add(text, status, p.now().Add(holds))
	}
	for key, value := range status.AuditAnnotations {
		request.Annotate(ctx, notes+key, value)
	}
	switch {
	case status.Allowed:
		return nil
	case status.Reason != "":
		return admission.Forbid(a, "image policy webhook backend denied one or more images: %s", status.Reason)
	}
	return admission.Forbid(a, "one or more images rejected by webhook backend")
}

// question is what the server is asked about a pod.
func question(pod *corev1.Pod, a *admission.Attributes) *imagepolicyv1alpha1.ImageReview {
	q := &imagepolicyv1alpha1.ImageReview{TypeMeta: metav1.TypeMeta{APIVersion: imagepolicyv1alpha1.SchemeGroupVersion.String(), Kind: "ImageReview"}}
	q.Spec.Namespace = a.Namespace
	add := func(image string) {
		q.Spec.Containers = append(q.Spec.Containers, imagepolicyv1alpha1.ImageReviewContainerSpec{Image: image})
	}
	if a.Subresource == "" {
		for _, c := range pod.Spec.Containers {
			add(c.Image)
		}
		for _, c := range pod.Spec.InitContainers {
			add(c.Image)
		}
	} else {
		for _, c := range pod.Spec.EphemeralContainers {
			add(c.Image)
		}
	}
	for key, value := range pod.Annotations {
		if strings.Contains(key, ownMark) {
			if q.Spec.Annotations == nil {
				q.Spec.Annotations = map[string]string{}
			}
			q.Spec.Annotations[key] = value
		}
	}
	return q
}
