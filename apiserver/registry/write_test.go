package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/admission"
	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

func TestCreateSetsWhatTheServerDecides(t *testing.T) {
	w := newWorld(t, nil, nil)
	p := pod("default", "web", "n1")
	p.UID, p.Generation, p.SelfLink = "mine", 7, "/x"
	p.Status.Phase = corev1.PodRunning
	now := metav1.Now()
	p.DeletionTimestamp = &now
	out := create(t, w.pods(), p)
	if out.UID == "" || out.UID == "mine" || out.Generation != 1 || out.DeletionTimestamp != nil || out.SelfLink != "" {
		t.Errorf("metadata: %+v", out.ObjectMeta)
	}
	if out.CreationTimestamp.IsZero() || out.CreationTimestamp.Nanosecond() != 0 {
		t.Errorf("creationTimestamp: %v", out.CreationTimestamp)
	}
	if out.Status.Phase != corev1.PodPending || out.Kind != "Pod" || out.ResourceVersion == "" {
		t.Errorf("%v %v %v", out.Status.Phase, out.Kind, out.ResourceVersion)
	}
	got := get[*corev1.Pod](t, w.pods(), "default", "web")
	if got.ResourceVersion != out.ResourceVersion || got.UID != out.UID {
		t.Errorf("read back: %+v", got.ObjectMeta)
	}
}

func TestCreateRefuses(t *testing.T) {
	w := newWorld(t, nil, nil)
	create(t, w.configMaps(), configMap("default", "there"))
	versioned := configMap("default", "x")
	versioned.ResourceVersion = "5"
	owner := configMap("default", "x")
	owner.OwnerReferences = []metav1.OwnerReference{{Kind: "Pod", Name: "p"}}
	finalizer := configMap("default", "x")
	finalizer.Finalizers = []string{"not qualified"}
	for _, row := range []struct {
		name   string
		obj    *corev1.ConfigMap
		reason metav1.StatusReason
		text   string
	}{
		{"taken", configMap("default", "there"), metav1.StatusReasonAlreadyExists, `configmaps "there" already exists`},
		{"the kind's rule", configMap("default", "x", "bad", "1"), metav1.StatusReasonInvalid, "must not be there"},
		{"bad name", configMap("default", "X_y"), metav1.StatusReasonInvalid, "RFC 1123 subdomain"},
		{"no name", configMap("default", ""), metav1.StatusReasonInvalid, "name or generateName is required"},
		{"no namespace", configMap("", "x"), metav1.StatusReasonInvalid, "metadata.namespace: Required value"},
		{"resourceVersion", versioned, metav1.StatusReasonBadRequest, "resourceVersion should not be set on objects to be created"},
		{"owner reference", owner, metav1.StatusReasonInvalid, "metadata.ownerReferences"},
		{"finalizer", finalizer, metav1.StatusReasonInvalid, "metadata.finalizers"},
		{"too large", configMap("default", "x", "a", strings.Repeat("x", store.MaxValue)),
			metav1.StatusReasonRequestEntityTooLarge, "too large to be stored"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, _, err := w.configMaps().Create(t.Context(), row.obj, nil)
			wantStatus(t, err, row.reason, row.text)
		})
	}
}

func wantStatus(t *testing.T, err error, reason metav1.StatusReason, text string) {
	t.Helper()
	var status *apierrors.StatusError
	switch {
	case !errors.As(err, &status):
		t.Errorf("got error %v, want a %s status", err, reason)
	case status.ErrStatus.Reason != reason || !strings.Contains(status.ErrStatus.Message, text):
		t.Errorf("got %s: %s\nwant %s: %s", status.ErrStatus.Reason, status.ErrStatus.Message, reason, text)
	}
}

func TestGenerateName(t *testing.T) {
	w := newWorld(t, nil, nil)
	for range 3 {
		c := configMap("default", "")
		c.GenerateName = strings.Repeat("long", 20) + "-"
		out := create(t, w.configMaps(), c)
		if len(out.Name) != 63 || !strings.HasPrefix(out.Name, "longlong") {
			t.Errorf("generated %q", out.Name)
		}
	}
}

func TestUpdate(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := w.configMaps()
	first := create(t, r, configMap("default", "c", "a", "1"))

	put := func(obj *corev1.ConfigMap) error {
		_, _, _, err := r.Update(t.Context(), "default", "c", "", func(resource.Object) (resource.Object, error) {
			return obj.DeepCopy(), nil
		}, nil, false)
		return err
	}
	second := first.DeepCopy()
	second.Data["a"] = "2"
	if err := put(second); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, put(second), metav1.StatusReasonConflict,
		`Operation cannot be fulfilled on configmaps "c": the object has been modified; please apply your changes to the latest version and try again`)

	unconditional := configMap("", "c", "a", "3")
	if err := put(unconditional); err != nil {
		t.Fatal(err)
	}
	got := get[*corev1.ConfigMap](t, r, "default", "c")
	if got.Data["a"] != "3" || got.UID != first.UID || !got.CreationTimestamp.Equal(&first.CreationTimestamp) {
		t.Errorf("after an unconditional update: %+v", got)
	}
	if err := put(got); err != nil {
		t.Fatal(err)
	}
	if again := get[*corev1.ConfigMap](t, r, "default", "c"); again.ResourceVersion != got.ResourceVersion {
		t.Errorf("an update that changes nothing went from %s to %s", got.ResourceVersion, again.ResourceVersion)
	}

	other := configMap("default", "c")
	other.UID = "other"
	wantStatus(t, put(other), metav1.StatusReasonConflict, "Precondition failed: UID in precondition: other, UID in object meta: ")
	wantStatus(t, put(configMap("default", "d")), metav1.StatusReasonBadRequest, "the name of the object (d) does not match the name on the URL (c)")
	wantStatus(t, put(configMap("kube-system", "c")), metav1.StatusReasonBadRequest, "the namespace of the provided object does not match the namespace sent on the request")
}

func TestUpdateNeedsAResourceVersionUnlessTheKindSaysOtherwise(t *testing.T) {
	w := newWorld(t, nil, nil)
	create(t, w.pods(), pod("default", "p", ""))
	_, _, _, err := w.pods().Update(t.Context(), "default", "p", "", func(resource.Object) (resource.Object, error) {
		return pod("default", "p", ""), nil
	}, nil, false)
	wantStatus(t, err, metav1.StatusReasonInvalid, "metadata.resourceVersion: Invalid value: 0: must be specified for an update")
}

func TestCreateOnUpdate(t *testing.T) {
	w := newWorld(t, nil, nil)
	set := func(r *Registry, createIfAbsent bool) (bool, error) {
		_, created, _, err := r.Update(t.Context(), "default", "x", "", func(current resource.Object) (resource.Object, error) {
			current.SetLabels(map[string]string{"a": "b"})
			return current, nil
		}, nil, createIfAbsent)
		return created, err
	}
	if created, err := set(w.For(leases.GroupResource()), false); err != nil || !created {
		t.Errorf("a kind that allows it: %v %v", created, err)
	}
	if created, err := set(w.For(leases.GroupResource()), false); err != nil || created {
		t.Errorf("when it is there: %v %v", created, err)
	}
	_, err := set(w.configMaps(), false)
	wantStatus(t, err, metav1.StatusReasonNotFound, `configmaps "x" not found`)
	if created, err := set(w.configMaps(), true); err != nil || !created {
		t.Errorf("asked for: %v %v", created, err)
	}
}

func TestSpecStatusAndGeneration(t *testing.T) {
	w := newWorld(t, nil, nil)
	create(t, w.pods(), pod("default", "p", ""))
	p := change(t, w.pods(), "default", "p", "", func(p *corev1.Pod) {
		p.Spec.Hostname, p.Status.Phase = "h", corev1.PodFailed
	})
	if p.Generation != 2 || p.Status.Phase != corev1.PodPending {
		t.Errorf("after a change of the spec: generation %d, phase %s", p.Generation, p.Status.Phase)
	}
	p = change(t, w.pods(), "default", "p", "status", func(p *corev1.Pod) {
		p.Spec.Hostname, p.Status.Phase = "other", corev1.PodRunning
		p.Annotations = map[string]string{"a": "b"}
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "x", UID: "y"}}
	})
	if p.Generation != 2 || p.Status.Phase != corev1.PodRunning || p.Spec.Hostname != "h" ||
		p.Annotations["a"] != "b" || p.OwnerReferences != nil {
		t.Errorf("after a change of the status: %+v", p)
	}
}

func TestRacingUpdatesAllHappen(t *testing.T) {
	w := newWorld(t, nil, nil)
	create(t, w.configMaps(), configMap("default", "c"))
	var wg sync.WaitGroup
	const writers, each = 8, 10
	for i := range writers {
		wg.Go(func() {
			for j := range each {
				_, _, _, err := w.configMaps().Update(t.Context(), "default", "c", "", func(current resource.Object) (resource.Object, error) {
					c := current.(*corev1.ConfigMap)
					if c.Data == nil {
						c.Data = map[string]string{}
					}
					c.Data[fmt.Sprintf("%d-%d", i, j)] = "x"
					return c, nil
				}, nil, false)
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := get[*corev1.ConfigMap](t, w.configMaps(), "default", "c"); len(got.Data) != writers*each {
		t.Errorf("%d of %d changes are there", len(got.Data), writers*each)
	}
}

func TestReadYourWrites(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := w.configMaps()
	for i := range 200 {
		name := fmt.Sprintf("c%d", i)
		out := create(t, r, configMap("default", name))
		if got := get[*corev1.ConfigMap](t, r, "default", name); got.ResourceVersion != out.ResourceVersion {
			t.Fatalf("read %s after writing %s", got.ResourceVersion, out.ResourceVersion)
		}
		l, err := r.List(t.Context(), Query{})
		if err != nil || len(l.Items) != 1 {
			t.Fatalf("%v, %d items", err, len(l.Items))
		}
		if _, _, err := r.Delete(t.Context(), "default", name, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Get(t.Context(), "default", name, ""); !apierrors.IsNotFound(err) {
			t.Fatalf("after deletion: %v", err)
		}
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := w.configMaps()
	all := []string{metav1.DryRunAll}
	out, _, err := r.Create(t.Context(), configMap("default", "c"), &metav1.CreateOptions{DryRun: all})
	if err != nil || out.GetUID() == "" || out.GetResourceVersion() != "" {
		t.Errorf("create: %v %+v", err, out)
	}
	if _, err := r.Get(t.Context(), "default", "c", ""); !apierrors.IsNotFound(err) {
		t.Errorf("created after all: %v", err)
	}
	was := create(t, r, configMap("default", "c", "a", "1"))
	_, _, err = r.Create(t.Context(), configMap("default", "c"), &metav1.CreateOptions{DryRun: all})
	wantStatus(t, err, metav1.StatusReasonAlreadyExists, "already exists")
	out, _, _, err = r.Update(t.Context(), "default", "c", "", func(c resource.Object) (resource.Object, error) {
		c.(*corev1.ConfigMap).Data["a"] = "2"
		return c, nil
	}, &metav1.UpdateOptions{DryRun: all}, false)
	if err != nil || out.(*corev1.ConfigMap).Data["a"] != "2" {
		t.Errorf("update: %v %v", err, out)
	}
	if _, gone, err := r.Delete(t.Context(), "default", "c", &metav1.DeleteOptions{DryRun: all}); err != nil || !gone {
		t.Errorf("delete: %v %v", gone, err)
	}
	if now := get[*corev1.ConfigMap](t, r, "default", "c"); now.ResourceVersion != was.ResourceVersion {
		t.Errorf("went from %s to %s", was.ResourceVersion, now.ResourceVersion)
	}
}

// recorder is a plugin that says what it saw, and refuses what carries a label.
type recorder struct{ seen []string }

func (*recorder) Name() string { return "Recorder" }

func (r *recorder) Mutate(_ context.Context, a *admission.Attributes) error {
	if a.Object != nil {
		labels := a.Object.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels["seen"] = string(a.Operation)
		a.Object.SetLabels(labels)
	}
	return nil
}

func (r *recorder) Validate(_ context.Context, a *admission.Attributes) error {
	r.seen = append(r.seen, fmt.Sprintf("%s %s/%s %v", a.Operation, a.Namespace, a.Name, a.DryRun))
	if a.Object != nil && a.Object.GetLabels()["refuse"] != "" {
		return admission.Forbid(a, "no reason")
	}
	return nil
}

func TestAdmission(t *testing.T) {
	plugin := &recorder{}
	w := newWorld(t, admission.Chain{plugin}, nil)
	r := w.configMaps()
	if out := create(t, r, configMap("default", "c")); out.Labels["seen"] != "CREATE" {
		t.Errorf("labels: %v", out.Labels)
	}
	if out := change(t, r, "default", "c", "", func(*corev1.ConfigMap) {}); out.Labels["seen"] != "UPDATE" {
		t.Errorf("labels: %v", out.Labels)
	}
	refused := configMap("default", "d")
	refused.Labels = map[string]string{"refuse": "yes"}
	_, _, err := r.Create(t.Context(), refused, nil)
	wantStatus(t, err, metav1.StatusReasonForbidden, `configmaps "d" is forbidden: no reason`)
	get[*corev1.ConfigMap](t, r, "default", "c") // so that the cache has the update, and the deletion is not raced
	if _, _, err := r.Delete(t.Context(), "default", "c", nil); err != nil {
		t.Fatal(err)
	}
	want := "CREATE default/c false; UPDATE default/c false; CREATE default/d false; DELETE default/c false"
	if got := strings.Join(plugin.seen, "; "); got != want {
		t.Errorf("saw %s\nwant %s", got, want)
	}
}

func TestReservationsAreCommittedOrUndone(t *testing.T) {
	var log []string
	note := func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) }
	hooks := Hooks{
		Reserve: func(_ context.Context, obj, old resource.Object, dryRun bool) (Reservation, error) {
			note("reserve %s %v %v", obj.GetName(), old != nil, dryRun)
			if obj.GetLabels()["full"] != "" {
				return Reservation{}, apierrors.NewInternalError(errors.New("range is full"))
			}
			return Reservation{Commit: func() { note("commit") }, Undo: func() { note("undo") }}, nil
		},
		Released: func(_ context.Context, obj resource.Object) { note("released %s", obj.GetName()) },
	}
	w := newWorld(t, nil, map[schema.GroupResource]Hooks{configMaps.GroupResource(): hooks})
	r := w.configMaps()
	create(t, r, configMap("default", "c"))
	r.Create(t.Context(), configMap("default", "c"), nil)                                                       //nolint:errcheck // what the hooks saw is compared below
	r.Create(t.Context(), configMap("default", "d", "bad", "1"), nil)                                           //nolint:errcheck // what the hooks saw is compared below
	r.Create(t.Context(), configMap("default", "d"), &metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}) //nolint:errcheck // what the hooks saw is compared below
	change(t, r, "default", "c", "", func(c *corev1.ConfigMap) { c.Data = map[string]string{"a": "1"} })
	full := configMap("default", "e")
	full.Labels = map[string]string{"full": "yes"}
	_, _, err := r.Create(t.Context(), full, nil)
	wantStatus(t, err, metav1.StatusReasonInternalError, "range is full")
	r.Delete(t.Context(), "default", "c", nil) //nolint:errcheck // what the hooks saw is compared below
	want := "reserve c false false; commit; reserve c false false; undo; reserve d false false; undo; " +
		"reserve d false true; undo; reserve c true false; commit; reserve e false false; released c"
	if got := strings.Join(log, "; "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWarnings(t *testing.T) {
	w := newWorld(t, nil, nil)
	_, warnings, err := w.configMaps().Create(t.Context(), configMap("default", "c", "old", "1"), nil)
	if err != nil || len(warnings) != 1 || warnings[0] != "old is old" {
		t.Errorf("%v %v", warnings, err)
	}
}
