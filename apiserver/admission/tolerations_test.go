package admission

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// toleration reads "key[=value][:effect[/seconds]]"; without a value it is one that the key exists. "*" is any key.
func toleration(text string) corev1.Toleration {
	rest, effect, _ := strings.Cut(text, ":")
	effect, seconds, timed := strings.Cut(effect, "/")
	key, value, equal := strings.Cut(rest, "=")
	t := corev1.Toleration{Key: strings.TrimPrefix(key, "*"), Value: value, Effect: corev1.TaintEffect(effect), Operator: corev1.TolerationOpExists}
	if equal {
		t.Operator = corev1.TolerationOpEqual
	}
	if timed {
		var n int64
		if _, err := fmt.Sscan(seconds, &n); err != nil {
			panic(err)
		}
		t.TolerationSeconds = &n
	}
	return t
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		wide, narrow string
		want         bool
	}{
		{"a=1", "a=1", true},
		{"a=1", "a=2", false},
		{"a", "a=1", true},
		{"a=1", "a", false},
		{"a", "b", false},
		{"*", "b=1:NoSchedule", true},
		{"*:NoSchedule", "b:NoExecute", false},
		{"a", "a:NoSchedule", true},
		{"a:NoSchedule", "a", false},
		{"a:NoExecute/10", "a:NoExecute/5", true},
		{"a:NoExecute/10", "a:NoExecute/20", false},
		{"a:NoExecute/10", "a:NoExecute", false},
		{"a:NoExecute", "a:NoExecute/10", true},
	} {
		wide, narrow := toleration(c.wide), toleration(c.narrow)
		if got := Covers(&wide, &narrow); got != c.want {
			t.Errorf("%s covers %s: %v", c.wide, c.narrow, got)
		}
	}
}

func TestMergeTolerations(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"", "", ""},
		{"a", "b", "a b"},
		{"a=1", "a", "a"},
		{"a", "a=1", "a"},
		{"a", "a", "a"},
		{"a=1 b", "* c", "*"},
	} {
		list := func(s string) (out []corev1.Toleration) {
			for _, w := range strings.Fields(s) {
				out = append(out, toleration(w))
			}
			return out
		}
		if got, want := fmt.Sprint(MergeTolerations(list(c.a), list(c.b))), fmt.Sprint(list(c.want)); got != want {
			t.Errorf("%q and %q: %s, want %s", c.a, c.b, got, want)
		}
	}
}
