package eventratelimit

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/apiserver/admission"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/request"
)

func made(t *testing.T, limits string) *Plugin {
	t.Helper()
	p, err := New(admission.Config{name: []byte("apiVersion: eventratelimit.admission.k8s.io/v1alpha1\nkind: Configuration\nlimits: [" + limits + "]")})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestLimits writes twice for each of two namespaces, users and pods, with room for one in each bucket.
func TestLimits(t *testing.T) {
	for kind, want := range map[string]string{
		"Server":          "ok no no no no no no no",
		"Namespace":       "ok no no no ok no no no", // the namespace changes after four
		"User":            "ok no ok no no no no no", // the user after two
		"SourceAndObject": "ok ok no no no no no no", // the pod after each
	} {
		synctest.Test(t, func(t *testing.T) {
			p := made(t, "{type: "+kind+", qps: 1, burst: 1}")
			var got []string
			for i := range 8 {
				ctx := request.With(t.Context(), &request.State{User: &request.UserInfo{Name: fmt.Sprint(i / 2 % 2)}})
				err := p.Validate(ctx, &admission.Attributes{
					Kind: core.Event, Operation: admission.Create, Namespace: fmt.Sprint(i / 4),
					Object: &corev1.Event{InvolvedObject: corev1.ObjectReference{Name: fmt.Sprint(i % 2)}},
				})
				switch {
				case err == nil:
					got = append(got, "ok")
				case apierrors.IsTooManyRequests(err) && strings.Contains(err.Error(), "limit reached on type "+kind+" for key "):
					got = append(got, "no")
				default:
					t.Errorf("%s: %v", kind, err)
				}
			}
			if text := strings.Join(got, " "); text != want {
				t.Errorf("%s: %s, want %s", kind, text, want)
			}
		})
	}
}

func TestTimeAndOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := made(t, "{type: Server, qps: 1, burst: 2}")
		write := func(a admission.Attributes) bool { return p.Validate(t.Context(), &a) == nil }
		event := admission.Attributes{Kind: core.Event, Operation: admission.Create, Object: &corev1.Event{}}
		dry := event
		dry.DryRun = true
		if !write(event) || !write(event) || write(event) {
			t.Error("not two at once")
		}
		if !write(dry) || !write(admission.Attributes{Kind: core.Pod, Operation: admission.Create}) || !write(admission.Attributes{Kind: core.Event, Operation: admission.Delete}) {
			t.Error("something else was counted")
		}
		time.Sleep(time.Second)
		if !write(event) || write(event) {
			t.Error("not one a second")
		}
	})
}

func TestConfiguration(t *testing.T) {
	for text, want := range map[string]string{
		"": "limits: must not be empty",
		"kind: Configuration\nlimits: [{type: Day, qps: 1, burst: 1}]":    `"Day" is none of Server`,
		"kind: Configuration\nlimits: [{type: Server, qps: 0, burst: 1}]": "must be positive",
		"kind: Configuration\nlimit: []":                                  "unknown field",
	} {
		if _, err := New(admission.Config{name: []byte(text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
