package registry

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
)

func selector(t *testing.T, s string) labels.Selector {
	t.Helper()
	l, err := labels.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func fieldSelector(t *testing.T, s string) fields.Selector {
	t.Helper()
	f, err := fields.ParseSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestListSelects(t *testing.T) {
	w := newWorld(t, nil, nil)
	for i, name := range []string{"a", "b", "c"} {
		create(t, w.pods(), pod("default", name, fmt.Sprintf("n%d", i%2)))
		create(t, w.pods(), pod("other", name, "n2"))
	}
	create(t, w.namespaces(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	for _, row := range []struct {
		name string
		q    Query
		want string
	}{
		{"all", Query{}, "default/a default/b default/c other/a other/b other/c"},
		{"namespace", Query{Namespace: "other"}, "other/a other/b other/c"},
		{"namespace that is a prefix of another", Query{Namespace: "oth"}, ""},
		{"label", Query{Label: selector(t, "app!=a")}, "default/b default/c other/b other/c"},
		{"name", Query{Field: fieldSelector(t, "metadata.name=b")}, "default/b other/b"},
		{"one object", Query{Namespace: "other", Field: fieldSelector(t, "metadata.name=b")}, "other/b"},
		{"no object", Query{Namespace: "other", Field: fieldSelector(t, "metadata.name=x")}, ""},
		{"namespace by field", Query{Field: fieldSelector(t, "metadata.namespace=other,metadata.name!=a")}, "other/b other/c"},
		{"field", Query{Field: fieldSelector(t, "spec.nodeName=n0")}, "default/a default/c"},
		{"not the field", Query{Field: fieldSelector(t, "spec.nodeName!=n2"), Label: selector(t, "app=b")}, "default/b"},
		{"whatever the cache has", Query{ResourceVersion: "0"}, "default/a default/b default/c other/a other/b other/c"},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, err := w.pods().List(t.Context(), row.q)
			if err != nil {
				t.Fatal(err)
			}
			wantNames(t, l, strings.Fields(row.want)...)
		})
	}
	_, err := w.pods().List(t.Context(), Query{Field: fieldSelector(t, "spec.x=1")})
	wantStatus(t, err, metav1.StatusReasonBadRequest, "field label not supported: spec.x")
	_, err = w.configMaps().List(t.Context(), Query{Field: fieldSelector(t, "x=1")})
	wantStatus(t, err, metav1.StatusReasonBadRequest, `"x" is not a known field selector: only "metadata.name", "metadata.namespace"`)
	one, err := w.namespaces().List(t.Context(), Query{Field: fieldSelector(t, "metadata.name=default")})
	if err != nil {
		t.Fatal(err)
	}
	wantNames(t, one, "/default")
}

func TestPages(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := w.configMaps()
	for i := range 7 {
		create(t, r, configMap("default", fmt.Sprintf("c%d", i)))
		create(t, r, configMap("other", fmt.Sprintf("c%d", i)))
	}
	for _, namespace := range []string{"", "default"} {
		var got []string
		q := Query{Namespace: namespace, Limit: 3}
		first, err := r.List(t.Context(), Query{Namespace: namespace})
		if err != nil {
			t.Fatal(err)
		}
		for page := 0; ; page++ {
			l, err := r.List(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, names(l)...)
			if l.Rev != first.Rev {
				t.Errorf("page %d shows %d, not %d", page, l.Rev, first.Rev)
			}
			if left := int64(len(first.Items) - len(got)); left == 0 && l.Remaining != nil || left > 0 && *l.Remaining != left {
				t.Errorf("page %d: %d remain, but it says %v", page, left, l.Remaining)
			}
			if l.Continue == "" {
				break
			}
			q.Continue = l.Continue
			// A change in between must not be seen.
			change(t, r, "default", "c6", "", func(c *corev1.ConfigMap) { c.Data = map[string]string{"page": strconv.Itoa(page)} })
			create(t, r, configMap(namespace+"default", fmt.Sprintf("c5-%d", page)))
			first.Items = slices.Clip(first.Items)
		}
		wantNames(t, first, got...)
	}
}

// etcdPages makes the cache forget, so that pages come from etcd.
func TestPagesFromEtcdAndExpiry(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := w.configMaps()
	for i := range 6 {
		create(t, r, configMap("default", fmt.Sprintf("c%d", i)))
	}
	l, err := r.List(t.Context(), Query{Namespace: "default", Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	old := l.Rev
	// More snapshots than are kept push the first one out.
	for i := range 40 {
		create(t, r, configMap("other", fmt.Sprintf("c%d", i)))
		if _, err := r.List(t.Context(), Query{Limit: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if r.cache.At(old) != nil {
		t.Fatal("the cache still has the snapshot: this test proves nothing")
	}
	next, err := r.List(t.Context(), Query{Namespace: "default", Limit: 2, Continue: l.Continue})
	if err != nil {
		t.Fatal(err)
	}
	wantNames(t, next, "default/c2", "default/c3")
	if next.Rev != old || *next.Remaining != 2 {
		t.Errorf("rev %d, remaining %d", next.Rev, *next.Remaining)
	}
	exact, err := r.List(t.Context(), Query{ResourceVersion: strconv.FormatInt(old, 10), Match: metav1.ResourceVersionMatchExact})
	if err != nil || len(exact.Items) != 6 || exact.Rev != old {
		t.Errorf("exact: %v", err)
	}

	compact(t, w)
	_, err = r.List(t.Context(), Query{ResourceVersion: strconv.FormatInt(old, 10), Match: metav1.ResourceVersionMatchExact})
	wantStatus(t, err, metav1.StatusReasonExpired, "The resourceVersion for the provided list is too old.")
	_, err = r.List(t.Context(), Query{Namespace: "default", Limit: 2, Continue: next.Continue})
	wantStatus(t, err, metav1.StatusReasonExpired, "The provided continue parameter is too old")
	again := err.(*apierrors.StatusError).ErrStatus.ListMeta.Continue //nolint:errorlint // what List returns
	rest, err := r.List(t.Context(), Query{Namespace: "default", Limit: 5, Continue: again})
	if err != nil {
		t.Fatal(err)
	}
	wantNames(t, rest, "default/c4", "default/c5")
}

// compact drops all old revisions.
func compact(t *testing.T, w *world) {
	t.Helper()
	rev, err := w.store.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Compact(t.Context(), rev, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
}

func TestListRefuses(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := w.configMaps()
	for _, row := range []struct {
		name   string
		q      Query
		reason metav1.StatusReason
		text   string
	}{
		{"future", Query{ResourceVersion: "100000", Match: metav1.ResourceVersionMatchExact}, metav1.StatusReasonTimeout, "Too large resource version: 100000, current: "},
		{"not a number", Query{ResourceVersion: "x"}, metav1.StatusReasonBadRequest, "invalid resource version"},
		{"match without version", Query{Match: metav1.ResourceVersionMatchExact}, metav1.StatusReasonInvalid, "resourceVersionMatch is forbidden unless resourceVersion is provided"},
		{"exact zero", Query{ResourceVersion: "0", Match: metav1.ResourceVersionMatchExact}, metav1.StatusReasonInvalid, "is forbidden for resourceVersion"},
		{"continue and version", Query{ResourceVersion: "5", Continue: "x"}, metav1.StatusReasonBadRequest, "not allowed when using continue"},
		{"garbage", Query{Continue: "x"}, metav1.StatusReasonBadRequest, "continue key is not valid"},
		{"out of the prefix", Query{Continue: encodeToken("../secrets/", "", 5)}, metav1.StatusReasonBadRequest, "continue key is not valid"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := r.List(t.Context(), row.q)
			wantStatus(t, err, row.reason, row.text)
		})
	}
}

// read collects events until one satisfies last.
func read(t *testing.T, wt *Watch, last func(string) bool) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var out []string
	for {
		events, err := wt.Next(ctx)
		if err != nil {
			t.Fatalf("%v after %v", err, out)
		}
		for _, e := range events {
			s := string(e.Type)
			if e.Item != nil {
				s += " " + e.Item.Namespace + "/" + e.Item.Name
				if e.Type != watch.Added && e.Item.Object.GetResourceVersion() != strconv.FormatInt(e.Rev, 10) {
					t.Errorf("%s has resourceVersion %s, the event %d", s, e.Item.Object.GetResourceVersion(), e.Rev)
				}
			}
			if e.InitialEnd {
				s += " end"
			}
			out = append(out, s)
			if last(s) {
				return out
			}
		}
	}
}

func TestWatch(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := w.pods()
	first := create(t, r, pod("default", "a", "n1"))
	create(t, r, pod("other", "b", "n1"))
	yes, no := true, false
	type row struct {
		name string
		q    Query
		want string
	}
	rows := []row{
		{"from nothing", Query{}, "ADDED default/a, ADDED other/b, ADDED default/c, MODIFIED default/c, DELETED default/c, ADDED default/z"},
		{"after a revision", Query{ResourceVersion: first.ResourceVersion}, "ADDED other/b, ADDED default/c, MODIFIED default/c, DELETED default/c, ADDED default/z"},
		{"namespace", Query{Namespace: "default", ResourceVersion: first.ResourceVersion}, "ADDED default/c, MODIFIED default/c, DELETED default/c, ADDED default/z"},
		{"one object", Query{Field: fieldSelector(t, "metadata.name=z")}, "ADDED default/z"},
		{"leaves the node", Query{Field: fieldSelector(t, "spec.nodeName=n1")}, "ADDED default/a, ADDED other/b, ADDED default/c, DELETED default/c, ADDED default/z"},
		{"comes to the node", Query{Field: fieldSelector(t, "spec.nodeName=n2")}, "ADDED default/c, DELETED default/c, ADDED default/z"},
		{"label", Query{Label: selector(t, "app=z")}, "ADDED default/z"},
		{"initial events", Query{SendInitialEvents: &yes, Match: metav1.ResourceVersionMatchNotOlderThan, Bookmarks: true, Namespace: "default"},
			"ADDED default/a, BOOKMARK end, ADDED default/c, MODIFIED default/c, DELETED default/c, ADDED default/z"},
		{"no initial events", Query{SendInitialEvents: &no, Match: metav1.ResourceVersionMatchNotOlderThan, Namespace: "default"},
			"ADDED default/c, MODIFIED default/c, DELETED default/c, ADDED default/z"},
	}
	watches := make([]*Watch, len(rows))
	for i, row := range rows {
		wt, err := r.Watch(t.Context(), row.q)
		if err != nil {
			t.Fatal(row.name, err)
		}
		defer wt.Stop()
		watches[i] = wt
	}
	create(t, r, pod("default", "c", "n1"))
	change(t, r, "default", "c", "", func(p *corev1.Pod) { p.Spec.NodeName = "n2" })
	zero := int64(0)
	if _, _, err := r.Delete(t.Context(), "default", "c", &metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	create(t, r, pod("default", "z", "n2"))
	change(t, r, "default", "z", "", func(p *corev1.Pod) { p.Spec.NodeName = "n1" })
	for i, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got := read(t, watches[i], func(s string) bool { return s == "ADDED default/z" })
			if s := strings.Join(got, ", "); s != row.want {
				t.Errorf("got  %s\nwant %s", s, row.want)
			}
		})
	}
}

func TestWatchEnds(t *testing.T) {
	w := newWorld(t, nil, nil)
	wt, err := w.pods().Watch(t.Context(), Query{Timeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer wt.Stop()
	if _, err := wt.Next(t.Context()); err != io.EOF { //nolint:errorlint // Next promises it bare
		t.Errorf("after its time: %v", err)
	}
	_, err = w.pods().Watch(t.Context(), Query{Match: metav1.ResourceVersionMatchNotOlderThan})
	wantStatus(t, err, metav1.StatusReasonInvalid, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
}

func TestWatchFromBeforeTheCacheIsGone(t *testing.T) {
	w := newWorld(t, nil, nil)
	_, err := w.pods().Watch(t.Context(), Query{ResourceVersion: "0"})
	if err != nil {
		t.Errorf("from 0: %v", err)
	}
	create(t, w.pods(), pod("default", "a", ""))
	// The cache was filled at revision 1.
	if _, err := w.pods().Watch(t.Context(), Query{ResourceVersion: "1"}); err != nil {
		t.Errorf("from the fill: %v", err)
	}
}
