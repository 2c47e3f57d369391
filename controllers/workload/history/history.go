// Package history keeps the past of an object's pod template as ControllerRevisions: what StatefulSets and DaemonSets
// need to roll back and to tell old pods from new ones.
//
// Most of it is pure: from the revisions that exist and the object of today it says which revision is the current one,
// whether one has to be made or renumbered, and which are too many. A revision's data and labels are those that
// upstream's controllers write, so that one controller manager can take over from another without a rollout.
package history

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
)

// hashLabel tells revisions of one object apart.
const hashLabel = "controller.kubernetes.io/hash"

// Subject is the object whose past is kept.
type Subject struct {
	Meta     metav1.Object
	Kind     schema.GroupVersionKind
	Template *corev1.PodTemplateSpec
	Labels   map[string]string // of its revisions: those that its selector finds
	// HashInName: pods carry the hash alone as their label controller-revision-hash, as those of DaemonSets do, and so
	// revisions need the same label.
	LabelHash bool
	Collision int32 // status.collisionCount
}

// New makes the revision of the subject as it is now, with the given number.
func New(s Subject, number int64) (*appsv1.ControllerRevision, error) {
	template, err := json.Marshal(s.Template)
	if err != nil {
		return nil, fmt.Errorf("encode template of %s/%s: %w", s.Meta.GetNamespace(), s.Meta.GetName(), err)
	}
	data, err := asPatch(template)
	if err != nil {
		return nil, fmt.Errorf("read template of %s/%s again: %w", s.Meta.GetNamespace(), s.Meta.GetName(), err)
	}
	hash := hashOf(data, s.Collision)
	labels := maps.Clone(s.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[hashLabel] = hash
	if s.LabelHash {
		labels[appsv1.ControllerRevisionHashLabelKey] = hash
	}
	return &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Meta.GetNamespace(), Name: name(s.Meta.GetName(), hash), Labels: labels,
			Annotations:     annotations(s.Meta.GetAnnotations()),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s.Meta, s.Kind)},
		},
		Data: runtime.RawExtension{Raw: data}, Revision: number,
	}, nil
}

// annotations are the object's, but for what kubectl keeps there for itself.
func annotations(in map[string]string) map[string]string {
	out := maps.Clone(in)
	delete(out, corev1.LastAppliedConfigAnnotation)
	return out
}

// asPatch makes of a template a strategic merge patch that replaces the template.
func asPatch(template []byte) ([]byte, error) {
	fields := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(template))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		return nil, err
	}
	fields["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": fields}})
}

// longestName leaves room for the hash in a label's value.
const longestName = 52

func name(owner, hash string) string {
	if len(owner) > longestName {
		owner = owner[:longestName]
	}
	return owner + "-" + hash
}

func hashOf(data []byte, collision int32) string {
	h := fnv.New32()
	h.Write(data)
	if collision != 0 {
		h.Write([]byte(strconv.Itoa(int(collision))))
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// Equal reports whether two revisions say the same, whoever wrote them: fields that are null or empty objects count as
// left out.
func Equal(a, b *appsv1.ControllerRevision) bool {
	if bytes.Equal(a.Data.Raw, b.Data.Raw) {
		return true
	}
	left, errLeft := decode(a)
	right, errRight := decode(b)
	return errLeft == nil && errRight == nil && equality.Semantic.DeepEqual(left, right)
}

func decode(r *appsv1.ControllerRevision) (any, error) {
	var v any
	err := json.Unmarshal(r.Data.Raw, &v)
	return strip(v), err
}

// strip removes nulls and empty objects below v.
func strip(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, field := range v {
			field = strip(field)
			if inner, ok := field.(map[string]any); field == nil || ok && len(inner) == 0 && (key == "resources" || key == "metadata" || key == "strategy") {
				delete(v, key)
			} else {
				v[key] = field
			}
		}
		return v
	case []any:
		for i := range v {
			v[i] = strip(v[i])
		}
		return v
	default:
		return v
	}
}

// Template is the pod template that a revision holds.
func Template(r *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var data struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(r.Data.Raw, &data); err != nil {
		return nil, fmt.Errorf("read revision %s/%s: %w", r.Namespace, r.Name, err)
	}
	return &data.Spec.Template, nil
}

// Plan is what has to happen so that a revision says what the object says today.
type Plan struct {
	Current  *appsv1.ControllerRevision // equal to the object of today; with Create set, not stored yet
	Create   bool
	Renumber *appsv1.ControllerRevision // Current has to get this number: the object was rolled back to it
	Old      []*appsv1.ControllerRevision
}

// Make compares the object of today with its revisions.
func Make(s Subject, revisions []*appsv1.ControllerRevision) (Plan, error) {
	sorted := Sorted(revisions)
	next := int64(1)
	if len(sorted) > 0 {
		next = sorted[len(sorted)-1].Revision + 1
	}
	today, err := New(s, next)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Current: today, Create: true}
	for _, r := range slices.Backward(sorted) {
		if p.Create && Equal(r, today) {
			p.Current, p.Create = r, false
			if r.Revision < next-1 {
				to := r.DeepCopy()
				to.Revision = next
				p.Renumber = to
			}
		}
	}
	for _, r := range sorted {
		if r != p.Current {
			p.Old = append(p.Old, r)
		}
	}
	return p, nil
}

// Sorted returns the revisions, oldest first.
func Sorted(revisions []*appsv1.ControllerRevision) []*appsv1.ControllerRevision {
	return slices.SortedFunc(slices.Values(revisions), func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
}

// Surplus returns the oldest of the old revisions that nothing uses and that are beyond the limit.
func Surplus(old []*appsv1.ControllerRevision, limit *int32, used func(*appsv1.ControllerRevision) bool) []*appsv1.ControllerRevision {
	keep := int32(10)
	if limit != nil {
		keep = *limit
	}
	var idle []*appsv1.ControllerRevision
	for _, r := range old {
		if !used(r) {
			idle = append(idle, r)
		}
	}
	if n := len(idle) - int(keep); n > 0 {
		return idle[:n]
	}
	return nil
}
