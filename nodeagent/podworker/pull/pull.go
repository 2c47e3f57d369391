// Package pull gets the image of a container onto the node by the rules of imagePullPolicy, and says in the API's
// words why it could not.
//
// Pulls run in parallel up to a bound; pods that want the same image at once share the wait. A failed pull is retried
// with growing delay, kept per pod and image: 5 s doubling to 2 minutes (upstream: 10 s to 5 minutes).
package pull

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/plan"
	"hardway/nodeagent/podworker/compose"
)

const (
	firstDelay = 5 * time.Second
	lastDelay  = 2 * time.Minute
)

// Image is an image on the node.
type Image struct {
	compose.Image
	Digest     string // name@sha256:..., empty for an imported image without a registry's digest
	StopSignal string
	Size       int64
}

// Store is where images are kept on the node.
type Store interface {
	Get(ref string) (Image, bool)
	Pull(ctx context.Context, ref string, auth authn.Keychain) (Image, error)
}

// Note tells the user something about a container.
type Note func(eventtype, reason, format string, args ...any)

// Failure is an image that is not there, in the API's words, and when to try again.
type Failure struct {
	plan.Waiting
	Retry  time.Duration
	Pulled bool // a registry was asked: the wait becomes ImagePullBackOff
}

func (f *Failure) Error() string { return f.Reason + ": " + f.Message }

// Puller pulls images for all pods of the node.
type Puller struct {
	store Store
	slots chan struct{} // bounds the pulls under way; further ones wait

	mu     sync.Mutex // guards all below
	busy   map[string]chan struct{}
	delays map[key]time.Duration
}

type key struct {
	uid types.UID
	ref string
}

// New returns a puller that runs at most parallel pulls at once.
func New(store Store, parallel int) *Puller {
	return &Puller{store: store, slots: make(chan struct{}, parallel), busy: map[string]chan struct{}{}, delays: map[key]time.Duration{}}
}

// Ensure returns the container's image. The error is a *Failure, or ctx's.
func (p *Puller) Ensure(ctx context.Context, pod *corev1.Pod, c *corev1.Container, auth authn.Keychain, note Note) (Image, error) {
	if _, err := name.ParseReference(c.Image, name.WeakValidation); err != nil {
		msg := fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name %q: %v", c.Image, c.Image, err)
		note(corev1.EventTypeWarning, "InspectFailed", "%s", msg)
		return Image{}, &Failure{Waiting: plan.Waiting{Reason: "InvalidImageName", Message: msg}, Retry: lastDelay}
	}
	if c.ImagePullPolicy != corev1.PullAlways {
		if img, ok := p.present(c, note); ok {
			return img, nil
		}
	}
	if c.ImagePullPolicy == corev1.PullNever {
		msg := fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)
		note(corev1.EventTypeWarning, "ErrImageNeverPull", "%s", msg)
		return Image{}, &Failure{Waiting: plan.Waiting{Reason: "ErrImageNeverPull", Message: msg}, Retry: firstDelay}
	}
	return p.pull(ctx, pod, c, auth, note)
}

func (p *Puller) present(c *corev1.Container, note Note) (Image, bool) {
	img, ok := p.store.Get(c.Image)
	if ok {
		note(corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine", c.Image)
	}
	return img, ok
}

func (p *Puller) pull(ctx context.Context, pod *corev1.Pod, c *corev1.Container, auth authn.Keychain, note Note) (Image, error) {
	began := time.Now()
	note(corev1.EventTypeNormal, "Pulling", "Pulling image %q", c.Image)
	waited, release, err := p.acquire(ctx, c.Image)
	if err != nil {
		return Image{}, err
	}
	defer release()
	if waited && c.ImagePullPolicy != corev1.PullAlways {
		if img, ok := p.present(c, note); ok {
			return img, nil
		}
	}
	alone := time.Now()
	img, err := p.store.Pull(ctx, c.Image, auth)
	if ctx.Err() != nil {
		return Image{}, context.Cause(ctx)
	}
	k := key{pod.UID, c.Image}
	if err != nil {
		note(corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %v", c.Image, err)
		return Image{}, &Failure{Waiting: plan.Waiting{Reason: "ErrImagePull", Message: err.Error()}, Retry: p.backOff(k), Pulled: true}
	}
	p.mu.Lock()
	delete(p.delays, k)
	p.mu.Unlock()
	note(corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.",
		c.Image, time.Since(alone).Truncate(time.Millisecond), time.Since(began).Truncate(time.Millisecond), img.Size)
	return img, nil
}

// acquire waits until nobody else pulls ref and a slot is free. It says whether somebody else did.
func (p *Puller) acquire(ctx context.Context, ref string) (waited bool, release func(), err error) {
	for {
		p.mu.Lock()
		other := p.busy[ref]
		if other == nil {
			mine := make(chan struct{})
			p.busy[ref] = mine
			p.mu.Unlock()
			done := func() {
				p.mu.Lock()
				delete(p.busy, ref)
				p.mu.Unlock()
				close(mine)
			}
			select {
			case p.slots <- struct{}{}:
				return waited, func() { <-p.slots; done() }, nil
			case <-ctx.Done():
				done()
				return waited, nil, context.Cause(ctx)
			}
		}
		p.mu.Unlock()
		waited = true
		select {
		case <-other:
		case <-ctx.Done():
			return waited, nil, context.Cause(ctx)
		}
	}
}

// backOff doubles the delay of a pod's image and returns it.
func (p *Puller) backOff(k key) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delays[k] = min(max(2*p.delays[k], firstDelay), lastDelay)
	return p.delays[k]
}

// Forget drops what is remembered of a pod.
func (p *Puller) Forget(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.delays {
		if k.uid == uid {
			delete(p.delays, k)
		}
	}
}
