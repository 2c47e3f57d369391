package registry

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/apiserver/resource"
)

func gone(t *testing.T, r *Registry, namespace, name string) {
	t.Helper()
	if _, err := r.Get(t.Context(), namespace, name, ""); !apierrors.IsNotFound(err) {
		t.Errorf("%s/%s should be gone, but: %v", namespace, name, err)
	}
}

func TestDeleteAtOnce(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := w.configMaps()
	was := create(t, r, configMap("default", "c"))
	obj, isGone, err := r.Delete(t.Context(), "default", "c", nil)
	if err != nil || !isGone || obj.GetUID() != was.UID {
		t.Errorf("%v %v %v", obj, isGone, err)
	}
	gone(t, r, "default", "c")
	_, _, err = r.Delete(t.Context(), "default", "c", nil)
	wantStatus(t, err, metav1.StatusReasonNotFound, `configmaps "c" not found`)
}

func TestDeletePreconditions(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := w.configMaps()
	was := create(t, r, configMap("default", "c"))
	other, old := types.UID("other"), "1"
	for _, row := range []struct {
		name string
		p    metav1.Preconditions
		text string
	}{
		{"uid", metav1.Preconditions{UID: &other}, "the UID in the precondition (other) does not match the UID in record"},
		{"version", metav1.Preconditions{ResourceVersion: &old}, "the ResourceVersion in the precondition (1) does not match"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, _, err := r.Delete(t.Context(), "default", "c", &metav1.DeleteOptions{Preconditions: &row.p})
			wantStatus(t, err, metav1.StatusReasonConflict, row.text)
		})
	}
	ok := metav1.Preconditions{UID: &was.UID, ResourceVersion: &was.ResourceVersion}
	if _, isGone, err := r.Delete(t.Context(), "default", "c", &metav1.DeleteOptions{Preconditions: &ok}); err != nil || !isGone {
		t.Errorf("%v %v", isGone, err)
	}
}

func TestFinalizersHoldAnObject(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := w.configMaps()
	c := configMap("default", "c")
	c.Finalizers = []string{"example.com/one"}
	create(t, r, c)
	foreground := metav1.DeletePropagationForeground
	obj, isGone, err := r.Delete(t.Context(), "default", "c", &metav1.DeleteOptions{PropagationPolicy: &foreground})
	if err != nil || isGone || obj.GetDeletionTimestamp() == nil || *obj.GetDeletionGracePeriodSeconds() != 0 {
		t.Fatalf("%v %v %v", obj, isGone, err)
	}
	if f := obj.GetFinalizers(); len(f) != 2 || f[1] != metav1.FinalizerDeleteDependents {
		t.Errorf("finalizers: %v", f)
	}
	again, isGone, err := r.Delete(t.Context(), "default", "c", nil)
	if err != nil || isGone || again.GetResourceVersion() != obj.GetResourceVersion() {
		t.Errorf("deleting again: %v %v", isGone, err)
	}
	_, _, err = r.Create(t.Context(), configMap("default", "c"), nil)
	wantStatus(t, err, metav1.StatusReasonAlreadyExists, `object is being deleted: configmaps "c" already exists`)

	change(t, r, "default", "c", "", func(c *corev1.ConfigMap) { c.Finalizers = c.Finalizers[1:] })
	if get[*corev1.ConfigMap](t, r, "default", "c").DeletionTimestamp == nil {
		t.Error("the mark is gone")
	}
	_, _, _, err = r.Update(t.Context(), "default", "c", "", func(o resource.Object) (resource.Object, error) {
		o.SetFinalizers(append(o.GetFinalizers(), "example.com/new"))
		return o, nil
	}, nil, false)
	wantStatus(t, err, metav1.StatusReasonInvalid, "no new finalizers can be added if the object is being deleted")
	change(t, r, "default", "c", "", func(c *corev1.ConfigMap) { c.Finalizers = nil })
	gone(t, r, "default", "c")
}

func TestOrphan(t *testing.T) {
	w := newWorld(t, nil, nil)
	create(t, w.configMaps(), configMap("default", "c"))
	yes := true
	obj, isGone, err := w.configMaps().Delete(t.Context(), "default", "c", &metav1.DeleteOptions{OrphanDependents: &yes})
	if err != nil || isGone || obj.GetFinalizers()[0] != metav1.FinalizerOrphanDependents {
		t.Errorf("%v %v %v", obj, isGone, err)
	}
}

func TestGracefulDeletion(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := w.pods()
	seconds := func(n int64) *metav1.DeleteOptions { return &metav1.DeleteOptions{GracePeriodSeconds: &n} }
	begin := time.Now().Truncate(time.Second)

	create(t, r, pod("default", "unbound", ""))
	if _, isGone, err := r.Delete(t.Context(), "default", "unbound", nil); err != nil || !isGone {
		t.Errorf("a pod without a node: %v %v", isGone, err)
	}
	create(t, r, pod("default", "p", "n1"))
	for _, row := range []struct {
		name  string
		o     *metav1.DeleteOptions
		grace int64
		gone  bool
	}{
		{"first", nil, 30, false},
		{"not longer", seconds(60), 30, false},
		{"without a wish", nil, 30, false},
		{"shorter", seconds(10), 10, false},
		{"negative is one second", seconds(-1), 1, false},
		{"none", seconds(0), 0, true},
	} {
		obj, isGone, err := r.Delete(t.Context(), "default", "p", row.o)
		if err != nil || isGone != row.gone || *obj.GetDeletionGracePeriodSeconds() != row.grace {
			t.Errorf("%s: gone %v, %v, %+v", row.name, isGone, err, obj)
			continue
		}
		end := obj.GetDeletionTimestamp().Time
		if late := end.Sub(begin) - time.Duration(row.grace)*time.Second; late < 0 || late > 5*time.Second {
			t.Errorf("%s: ends %s after the beginning", row.name, end.Sub(begin))
		}
	}
	gone(t, r, "default", "p")
}

func TestGenerationCountsTheMark(t *testing.T) {
	w := newWorld(t, nil, nil)
	create(t, w.pods(), pod("default", "p", "n1"))
	obj, _, err := w.pods().Delete(t.Context(), "default", "p", nil)
	if err != nil || obj.GetGeneration() != 2 {
		t.Errorf("%v %v", obj, err)
	}
}

func TestNamespacesOwnFinalizers(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := w.namespaces()
	create(t, r, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}})
	obj, isGone, err := r.Delete(t.Context(), "", "n", nil)
	ns, _ := obj.(*corev1.Namespace)
	if err != nil || isGone || ns.Status.Phase != corev1.NamespaceTerminating || ns.DeletionTimestamp == nil {
		t.Fatalf("%v %v %v", obj, isGone, err)
	}
	again, isGone, err := r.Delete(t.Context(), "", "n", nil)
	if err != nil || isGone || again.GetResourceVersion() != ns.ResourceVersion {
		t.Errorf("again: %v %v", isGone, err)
	}
	change(t, r, "", "n", "finalize", func(ns *corev1.Namespace) { ns.Spec.Finalizers = nil })
	gone(t, r, "", "n")
}

func TestDeleteCollection(t *testing.T) {
	w := newWorld(t, nil, nil)
	for _, name := range []string{"a", "b", "c", "d"} {
		create(t, w.pods(), pod("default", name, ""))
		create(t, w.pods(), pod("other", name, ""))
	}
	out, err := w.pods().DeleteCollection(t.Context(), Query{Namespace: "default", Label: selector(t, "app in (a,b,c)")}, nil)
	if err != nil || len(out) != 3 {
		t.Errorf("%d deleted, %v", len(out), err)
	}
	l, err := w.pods().List(t.Context(), Query{})
	if err != nil {
		t.Fatal(err)
	}
	wantNames(t, l, "default/d", "other/a", "other/b", "other/c", "other/d")
}
