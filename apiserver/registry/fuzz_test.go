package registry

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"hardway/apiserver/cache"
	"hardway/apiserver/store"
)

// FuzzToken: no token leads out of its list's prefix, and one that is made reads as it was made.
func FuzzToken(f *testing.F) {
	f.Add(encodeToken("/registry/pods/dev/a", "/registry/pods/dev/", 7))
	f.Add(encodeToken("/registry/pods/dev/../../secrets/x", "/registry/pods/dev/", 7))
	f.Add("eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi9hIn0")
	f.Fuzz(func(t *testing.T, token string) {
		const prefix = "/registry/pods/dev/"
		from, rev, err := decodeToken(token, prefix)
		if err != nil {
			return
		}
		if !strings.HasPrefix(from, prefix) || strings.Contains(from, "/../") || rev == 0 {
			t.Fatalf("%q leads to %q at %d", token, from, rev)
		}
		if last, found := strings.CutSuffix(from, "\x00"); found {
			again, rev2, err := decodeToken(encodeToken(last, prefix, rev), prefix)
			if err != nil || again != from || rev2 != rev {
				t.Fatalf("%q at %d became %q at %d: %v", from, rev, again, rev2, err)
			}
		}
	})
}

// FuzzSelectors: what can be parsed can be compiled or is refused, and matching never panics.
func FuzzSelectors(f *testing.F) {
	f.Add("app in (a,b),!c,d!=e", "metadata.name=x,spec.nodeName!=n")
	f.Add("a=b,a=c", "metadata.namespace=a,metadata.namespace=b")
	f.Add("((", "=,=")
	codec := store.NewCodec(pods, nil)
	value, err := codec.Encode(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "a"}}})
	if err != nil {
		f.Fatal(err)
	}
	it, err := cache.NewItem(f.Context(), codec, "/registry/pods/", store.KV{Key: "/registry/pods/dev/x", Value: value, Rev: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, label, field string) {
		l, err := labels.Parse(label)
		if err != nil {
			return
		}
		fs, err := fields.ParseSelector(field)
		if err != nil {
			return
		}
		for _, namespace := range []string{"", "dev"} {
			if sel, err := cache.Select(pods, namespace, l, fs); err == nil {
				sel.Matches(it)
			}
		}
	})
}
