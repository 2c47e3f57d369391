package static

import (
	"context"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: \"a:1\"}]}\n"

// world is the workers and the API.
type world struct {
	running map[types.UID]string
	mirrors map[string]*corev1.Pod
}

func (w *world) Update(p *corev1.Pod) { w.running[p.UID] = p.Name }
func (w *world) Remove(uid types.UID) { delete(w.running, uid) }
func (w *world) Node() *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u"}}
}
func (w *world) Get(_, name string) (*corev1.Pod, bool)        { p, ok := w.mirrors[name]; return p, ok }
func (w *world) Mirrors() iter.Seq[*corev1.Pod]                { return maps.Values(w.mirrors) }
func (w *world) Create(_ context.Context, p *corev1.Pod) error { w.mirrors[p.Name] = p; return nil }
func (w *world) Delete(_ context.Context, p *corev1.Pod) error { delete(w.mirrors, p.Name); return nil }

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	w := &world{running: map[types.UID]string{}, mirrors: map[string]*corev1.Pod{}}
	p := New(dir, "n1", time.Hour, w, w, zap.NewNop())
	step := func(what, running string) {
		t.Helper()
		p.look()
		if err := p.mirror(t.Context()); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, n := range w.running {
			names = append(names, n)
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != running || len(w.mirrors) != len(w.running) {
			t.Errorf("%s: running %q, %d mirrors; want %q", what, got, len(w.mirrors), running)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	step("an empty folder", "")
	write("web.yaml", manifest)
	write("notes.txt", "no manifest")
	step("a manifest", "web-n1")
	delete(w.mirrors, "web-n1")
	step("a deleted mirror", "web-n1")
	old := w.mirrors["web-n1"].Annotations[Mirror]
	write("web.yaml", "apiVersion: v1\nkind: P")
	step("a half-written manifest", "web-n1")
	write("web.yaml", strings.Replace(manifest, "a:1", "a:2", 1))
	step("a changed manifest", "web-n1")
	if w.mirrors["web-n1"].Annotations[Mirror] == old {
		t.Error("the mirror of the old manifest stayed")
	}
	if err := os.Remove(filepath.Join(dir, "web.yaml")); err != nil {
		t.Fatal(err)
	}
	step("no manifest", "")
}

func TestParse(t *testing.T) {
	p, err := Parse([]byte(manifest), "n1")
	if err != nil || p.Spec.RestartPolicy != corev1.RestartPolicyAlways || p.Spec.Containers[0].ImagePullPolicy != corev1.PullIfNotPresent {
		t.Errorf("%+v, %v", p, err)
	}
	for want, bad := range map[string]string{
		"unknown field": manifest + "other: 1\n", "must be v1 Pod": strings.Replace(manifest, "kind: Pod", "kind: Job", 1),
		"API objects": strings.Replace(manifest, "spec: {", "spec: {volumes: [{name: s, secret: {secretName: x}}], ", 1),
	} {
		if _, err := Parse([]byte(bad), "n1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(manifest))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = Parse(data, "n1") })
}
