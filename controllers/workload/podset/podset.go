// Package podset is what the controllers that own pods share: it claims pods for an owner, creates and deletes them, and
// remembers both until the cache shows them, so that a watch that is late never makes one pod too many.
//
// Reads pods; writes pods, their owner references, and Events about their owners. It decides nothing: how many and which
// is the business of each controller's plan. A pod's name is chosen before the request leaves, so that a creation whose
// answer was lost can be asked after.
package podset

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"

	"hardway/controllers/control"
	"hardway/controllers/ledger"
	"hardway/controllers/owner"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Owner is what pods belong to.
type Owner interface {
	metav1.Object
	runtime.Object
}

// Keeper writes the pods of all owners of one kind.
type Keeper struct {
	Pods control.Pods
	// Finalizer is put on pods that are adopted and taken off those that are released; "": none.
	Finalizer string

	env   control.Env
	log   *zap.Logger
	kind  schema.GroupVersionKind
	fresh func(ctx context.Context, namespace, name string) (metav1.Object, error)
	book  *ledger.Book
}

// New makes a Keeper. fresh reads an owner from the API itself, which adoption needs.
func New(env control.Env, kind schema.GroupVersionKind, fresh func(ctx context.Context, namespace, name string) (metav1.Object, error)) *Keeper {
	return &Keeper{Pods: env.Pods(), env: env, log: env.Log.Named(strings.ToLower(kind.Kind)), kind: kind, fresh: fresh, book: ledger.New()}
}

// Clear forgets everything, at the start of a term.
func (k *Keeper) Clear() { k.book.Clear() }

// Forget forgets an owner that is gone.
func (k *Keeper) Forget(uid types.UID) { k.book.Forget(uid) }

// Wake adds the owner of a changed pod to the queue, or those that could adopt it. Who could adopt an orphan is asked
// only when the pod is new or its labels or owners changed.
func (k *Keeper) Wake(q *control.Queue, adopters func(pod *corev1.Pod) iter.Seq[reconcile.Key]) {
	k.Pods.OnChange(func(old, now *corev1.Pod) {
		same := old != nil && now != nil && owner.ControllerUID(old) == owner.ControllerUID(now) && maps.Equal(old.Labels, now.Labels)
		for _, pod := range []*corev1.Pod{old, now} {
			if pod == nil {
				continue
			}
			if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
				if ref.Kind == k.kind.Kind && strings.HasPrefix(ref.APIVersion, groupPrefix(k.kind)) {
					q.Add(reconcile.Key{Namespace: pod.Namespace, Name: ref.Name})
				}
				continue
			}
			if pod != now || same || pod.DeletionTimestamp != nil {
				continue
			}
			for key := range adopters(pod) {
				q.Add(key)
			}
		}
	})
}

func groupPrefix(kind schema.GroupVersionKind) string {
	if kind.Group == "" {
		return kind.Version
	}
	return kind.Group + "/"
}

// Claim returns those of the candidates that belong to the owner, adopted ones included.
func (k *Keeper) Claim(ctx context.Context, obj Owner, selector labels.Selector, candidates []*corev1.Pod) ([]*corev1.Pod, error) {
	return owner.Claim(ctx, owner.Claimer{
		Owner: obj, Ref: *metav1.NewControllerRef(obj, k.kind), Finalizer: k.Finalizer,
		Fresh: func(ctx context.Context) (metav1.Object, error) {
			return k.fresh(ctx, obj.GetNamespace(), obj.GetName())
		},
		Patch: func(ctx context.Context, name string, patch []byte) error {
			_, err := client.Pods.Patch(ctx, k.env.API, obj.GetNamespace(), name, types.StrategicMergePatchType, patch)
			return err
		},
	}, selector, candidates)
}

// Candidates are the pods that Claim is to judge: those that the owner has, and those of the namespace that nobody has.
func (k *Keeper) Candidates(obj Owner) []*corev1.Pod {
	return append(k.Pods.OwnedBy(obj.GetUID()), k.Pods.Orphans(obj.GetNamespace())...)
}

// Settle brings the memory up to date. It returns the pods that were created and that the cache does not show yet, by
// name with the note of their creation, and the visible ones that were not deleted already.
func (k *Keeper) Settle(ctx context.Context, obj Owner, pods []*corev1.Pod, now time.Time) (unseen map[string]string, living []*corev1.Pod, err error) {
	unseen, err = k.book.Settle(obj.GetUID(),
		func(name string) bool { _, ok := k.Pods.Get(obj.GetNamespace(), name); return ok },
		func(name string) (bool, error) {
			pod, err := client.Pods.Get(ctx, k.env.API, obj.GetNamespace(), name)
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			return err == nil && owner.ControllerUID(pod) == obj.GetUID(), err
		}, now)
	if err != nil {
		return nil, nil, fmt.Errorf("look for pods that %s %s/%s created: %w", k.kind.Kind, obj.GetNamespace(), obj.GetName(), err)
	}
	shown := make(map[types.UID]bool, len(pods))
	for _, pod := range pods {
		shown[pod.UID] = pod.DeletionTimestamp == nil
	}
	gone := k.book.Gone(obj.GetUID(), func(uid types.UID) bool { return shown[uid] })
	for _, pod := range pods {
		if !gone[pod.UID] {
			living = append(living, pod)
		}
	}
	return unseen, living, nil
}

// Create makes n pods: one first, then twice as many each time while all succeed, so that a quota or a bad template
// costs one refused request and not n. make returns the i-th pod and a note about it; it is asked again when the pod's
// name is taken.
func (k *Keeper) Create(ctx context.Context, obj Owner, n int, make func(i int) (*corev1.Pod, string)) error {
	for batch, done := 1, 0; done < n; batch *= 2 {
		batch = min(batch, n-done)
		errs := together(batch, func(i int) error {
			return k.createOne(ctx, obj, func() (*corev1.Pod, string) { return make(done + i) })
		})
		if err := firstReal(errs); err != nil {
			return err
		}
		if errors.Join(errs...) != nil {
			return nil //nolint:nilerr // the namespace is going: nothing more can be made
		}
		done += batch
	}
	return nil
}

// together calls f for 0 to n-1 at once and returns what each call returned.
func together(n int, f func(i int) error) []error {
	errs := make([]error, n)
	if n == 1 {
		errs[0] = f(0)
		return errs
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errs
}

// firstReal returns the first error that is not merely the end of the namespace.
func firstReal(errs []error) error {
	for _, err := range errs {
		if err != nil && !control.Ending(err) {
			return err
		}
	}
	return nil
}

// nameTries is how many names are tried for one pod: some collide by chance in a set of thousands.
const nameTries = 5

func (k *Keeper) createOne(ctx context.Context, obj Owner, make func() (*corev1.Pod, string)) error {
	var err error
	last := ""
	for range nameTries {
		pod, note := make()
		if pod.Name == last {
			break // it has no other name to offer
		}
		last = pod.Name
		k.book.Creating(obj.GetUID(), pod.Name, note, time.Now())
		if _, err = client.Pods.Create(ctx, k.env.API, pod); err == nil {
			k.log.Info("created pod", zap.String("namespace", pod.Namespace), zap.String("name", pod.Name), zap.String("owner", obj.GetName()))
			k.env.Events.Event(obj, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %v", pod.Name)
			return nil
		}
		if control.Refused(err) {
			k.book.NotCreated(obj.GetUID(), pod.Name)
		}
		if !apierrors.IsAlreadyExists(err) {
			break
		}
	}
	if !control.Ending(err) {
		k.env.Events.Event(obj, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
	}
	return err
}

// removalsAtOnce bounds the deletions that are on their way for one owner.
const removalsAtOnce = 64

// Remove deletes the pods.
func (k *Keeper) Remove(ctx context.Context, obj Owner, pods []*corev1.Pod) error {
	var first error
	for part := range slices.Chunk(pods, removalsAtOnce) {
		for _, err := range together(len(part), func(i int) error { return k.removeOne(ctx, obj, part[i]) }) {
			if first == nil {
				first = err // they are likely all the same
			}
		}
	}
	return first
}

func (k *Keeper) removeOne(ctx context.Context, obj Owner, pod *corev1.Pod) error {
	err := client.Pods.Delete(ctx, k.env.API, pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // gone, or another pod by that name
		k.book.Deleted(obj.GetUID(), pod.UID, time.Now())
		return nil
	}
	if err != nil {
		k.env.Events.Event(obj, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
		return err
	}
	k.book.Deleted(obj.GetUID(), pod.UID, time.Now())
	k.log.Info("deleted pod", zap.String("namespace", pod.Namespace), zap.String("name", pod.Name), zap.String("owner", obj.GetName()))
	k.env.Events.Event(obj, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %v", pod.Name)
	return nil
}

const (
	suffixLength = 5  // of the random part of a pod's name, as the API server's generateName has it
	longestStem  = 58 // what is left before it, so that the pod's name still makes a host name
)

// FromTemplate makes a pod of the owner from a template, named stem, shortened if need be, and a random suffix.
func FromTemplate(obj Owner, kind schema.GroupVersionKind, template *corev1.PodTemplateSpec, stem string) *corev1.Pod {
	t := template.DeepCopy()
	short := stem
	if len(short) > longestStem {
		short = short[:longestStem]
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: obj.GetNamespace(), Name: short + rand.String(suffixLength), GenerateName: stem,
			Labels: maps.Clone(t.Labels), Annotations: maps.Clone(t.Annotations), Finalizers: slices.Clone(t.Finalizers),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(obj, kind)},
		},
		Spec: t.Spec,
	}
}
