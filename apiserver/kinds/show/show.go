// Package show formats the cells that `kubectl get` prints: the same words and shapes for every kind.
package show

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"hardway/apiserver/resource"
)

// Empty cells, as kubectl's users know them.
const (
	None    = "<none>"
	Unknown = "<unknown>"
	Unset   = "<unset>"
)

// Age is the column that ends most tables: how long ago the object was made.
func Age[T any, P resource.Pointer[T]]() resource.Column[T] {
	return resource.Column[T]{
		Name:     "Age",
		Describe: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
		Value:    func(obj *T) any { return Since(P(obj).GetCreationTimestamp().Time) },
	}
}

// Since is how long ago t was, in the form "5m" or "3d4h"; a zero t is unknown.
func Since(t time.Time) string {
	if t.IsZero() {
		return Unknown
	}
	return duration.HumanDuration(time.Since(t))
}

// Or is s, or the fallback when s is empty.
func Or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// Containers lists the containers' names, comma-separated.
func Containers(cs []corev1.Container) string {
	return join(cs, func(c corev1.Container) string { return c.Name })
}

// Images lists the containers' images, comma-separated.
func Images(cs []corev1.Container) string {
	return join(cs, func(c corev1.Container) string { return c.Image })
}

// FirstThree joins the first three items with commas and says how many more there are.
func FirstThree(items []string) string {
	if len(items) <= 3 {
		return strings.Join(items, ",")
	}
	return fmt.Sprintf("%s + %d more...", strings.Join(items[:3], ","), len(items)-3)
}

func join[T any](items []T, name func(T) string) string {
	names := make([]string, len(items))
	for i, item := range items {
		names[i] = name(item)
	}
	return strings.Join(names, ",")
}

// Now is the present moment as objects keep it: in UTC, to the second.
func Now() metav1.Time { return metav1.NewTime(time.Now().UTC().Truncate(time.Second)) }

// Phase is an object's phase, or Terminating once it is to be deleted.
func Phase(obj metav1.Object, phase string) string {
	if obj.GetDeletionTimestamp() != nil {
		return "Terminating"
	}
	return phase
}

// Set is what p points to, or "<unset>".
func Set[T ~string](p *T) string {
	if p == nil {
		return Unset
	}
	return string(*p)
}

// Bool is True or False, or "<unset>".
func Bool(p *bool) string {
	switch {
	case p == nil:
		return Unset
	case *p:
		return "True"
	}
	return "False"
}
