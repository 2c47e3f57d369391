package deployment

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/dump"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Annotations that the controller keeps; kubectl rollout reads them.
const (
	RevisionAnnotation        = "deployment.kubernetes.io/revision"
	RevisionHistoryAnnotation = "deployment.kubernetes.io/revision-history"
	DesiredReplicasAnnotation = "deployment.kubernetes.io/desired-replicas"
	MaxReplicasAnnotation     = "deployment.kubernetes.io/max-replicas"
)

// historyLimit is how many characters the list of a ReplicaSet's former revisions may take; the oldest are dropped
// first.
const historyLimit = 2000

// notInherited are annotations of the Deployment that its ReplicaSets do not get.
var notInherited = map[string]bool{
	corev1.LastAppliedConfigAnnotation: true,
	RevisionAnnotation:                 true,
	RevisionHistoryAnnotation:          true,
	DesiredReplicasAnnotation:          true,
	MaxReplicasAnnotation:              true,
	appsv1.DeprecatedRollbackTo:        true,
}

// inherit copies the Deployment's annotations to its current ReplicaSet.
func inherit(d *appsv1.Deployment, rs *appsv1.ReplicaSet) {
	for k, v := range d.Annotations {
		if !notInherited[k] {
			rs.Annotations[k] = v
		}
	}
}

// setRevision raises the revision of a ReplicaSet and appends the one it had to its history. A lower or unreadable
// revision changes nothing.
func setRevision(rs *appsv1.ReplicaSet, to int64) {
	old, had := rs.Annotations[RevisionAnnotation]
	from, err := revision(rs)
	if (err != nil && old != "") || from >= to {
		return
	}
	rs.Annotations[RevisionAnnotation] = strconv.FormatInt(to, 10)
	if !had {
		return
	}
	history := old
	if before := rs.Annotations[RevisionHistoryAnnotation]; before != "" {
		history = before + "," + old
	}
	for len(history) > historyLimit {
		_, rest, found := strings.Cut(history, ",")
		if !found {
			return
		}
		history = rest
	}
	rs.Annotations[RevisionHistoryAnnotation] = history
}

// setSizes notes on a ReplicaSet what the Deployment asked for when it was last scaled; proportional scaling starts
// from these.
func setSizes(rs *appsv1.ReplicaSet, want, most int32) {
	rs.Annotations[DesiredReplicasAnnotation] = strconv.Itoa(int(want))
	rs.Annotations[MaxReplicasAnnotation] = strconv.Itoa(int(most))
}

// size reads a number that setSizes wrote.
func size(rs *appsv1.ReplicaSet, annotation string) (int32, bool) {
	n, err := strconv.ParseInt(rs.Annotations[annotation], 10, 32)
	if err != nil || n < 0 {
		return 0, false
	}
	return int32(n), true
}

// templateHash is the value of the label pod-template-hash: upstream's, so that a cluster taken over from upstream
// names its ReplicaSets alike. collisions makes it differ when a name is taken by something else.
func templateHash(template *corev1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%v", dump.ForHash(*template))
	if collisions != nil {
		var b [8]byte
		binary.LittleEndian.PutUint32(b[:], uint32(*collisions))
		h.Write(b[:])
	}
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}

// newReplicaSet makes the ReplicaSet for the Deployment's template, without size and annotations. Its name follows from
// the template, so that it is created once.
func newReplicaSet(d *appsv1.Deployment) *appsv1.ReplicaSet {
	hash := templateHash(&d.Spec.Template, d.Status.CollisionCount)
	template := *d.Spec.Template.DeepCopy()
	template.Labels = withHash(template.Labels, hash)
	selector := &metav1.LabelSelector{}
	if d.Spec.Selector != nil {
		selector = d.Spec.Selector.DeepCopy()
	}
	selector.MatchLabels = withHash(selector.MatchLabels, hash)
	name := d.Name
	if most := validation.DNS1123SubdomainMaxLength - 1 - len(hash); len(name) > most {
		name = name[:most]
	}
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name:            name + "-" + hash,
			Namespace:       d.Namespace,
			Labels:          maps.Clone(template.Labels),
			Annotations:     map[string]string{},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, kind)},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(0)), MinReadySeconds: d.Spec.MinReadySeconds, Selector: selector, Template: template},
	}
}

func withHash(in map[string]string, hash string) map[string]string {
	out := maps.Clone(in)
	if out == nil {
		out = map[string]string{}
	}
	out[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	return out
}
