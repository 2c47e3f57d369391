package imagepolicywebhook

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	imagepolicyv1alpha1 "k8s.io/api/imagepolicy/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/admission"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/request"
)

// made makes the plugin with a server that refuses images that are called bad.
func made(t *testing.T, more string) (p *Plugin, asked *int, server *httptest.Server) {
	t.Helper()
	asked = new(int)
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked++
		var q imagepolicyv1alpha1.ImageReview
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Kind != "ImageReview" || q.Spec.Namespace != "ns" || len(q.Spec.Annotations) > 1 {
			t.Errorf("asked %+v, %v", q, err)
		}
		q.Status = imagepolicyv1alpha1.ImageReviewStatus{Allowed: true, AuditAnnotations: map[string]string{"seen": "yes"}}
		for _, c := range q.Spec.Containers {
			if strings.HasPrefix(c.Image, "bad") {
				q.Status.Allowed, q.Status.Reason = false, strings.TrimPrefix(c.Image, "bad")
			}
		}
		if err := json.NewEncoder(w).Encode(q); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("clusters: [{name: a, cluster: {server: %q}}]\ncontexts: [{name: a, context: {cluster: a}}]\ncurrent-context: a", server.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := New(admission.Config{name: fmt.Appendf(nil, "imagePolicy: {kubeConfigFile: %q, retryBackoff: 1%s}", path, more)})
	if err != nil {
		t.Fatal(err)
	}
	return p, asked, server
}

func write(sub string, images ...string) *admission.Attributes {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"own": "x", "ticket.image-policy.k8s.io/n": "1"}}}
	for _, image := range images {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Image: image})
	}
	return &admission.Attributes{Kind: core.Pod, Operation: admission.Create, Subresource: sub, Namespace: "ns", Object: pod}
}

func TestImages(t *testing.T) {
	p, asked, _ := made(t, "")
	now := time.Unix(1e9, 0)
	p.now = func() time.Time { return now }
	for _, c := range []struct {
		what  string
		a     *admission.Attributes
		want  string
		asked int
		after time.Duration
	}{
		{"good", write("", "good", "better"), "", 1, 0},
		{"good again", write("", "good", "better"), "", 1, 0},
		{"bad", write("", "good", "bad luck"), "image policy webhook backend denied one or more images:  luck", 2, 0},
		{"bad again", write("", "good", "bad luck"), " luck", 2, 0},
		{"bad without a reason", write("", "bad"), "one or more images rejected by webhook backend", 3, 0},
		{"good, after a minute", write("", "good", "better"), "", 3, time.Minute},
		{"bad, after another", write("", "bad"), "rejected", 4, time.Minute},
		{"good, after six", write("", "good", "better"), "", 5, 4 * time.Minute},
		{"a status", write("status", "bad"), "", 5, 0},
	} {
		now = now.Add(c.after)
		state := &request.State{}
		err := p.Validate(request.With(t.Context(), state), c.a)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
		if *asked != c.asked {
			t.Errorf("%s: asked %d times, want %d", c.what, *asked, c.asked)
		}
		if c.a.Subresource == "" && state.Annotations()[notes+"seen"] != "yes" {
			t.Errorf("%s: not noted", c.what)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	p, _, server := made(t, "")
	server.Close()
	if err := p.Validate(t.Context(), write("", "good")); err == nil || !strings.Contains(err.Error(), "is forbidden: ask http://") {
		t.Errorf("closed: %v", err)
	}
	p, _, server = made(t, ", defaultAllow: true")
	server.Close()
	state := &request.State{}
	if err := p.Validate(request.With(t.Context(), state), write("", "good")); err != nil || state.Annotations()[notes+"failed-open"] != "true" {
		t.Errorf("open: %v, noted %v", err, state.Annotations())
	}
}

func TestConfiguration(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "kubeConfigFile is needed",
		"imagePolicy: {allowTTL: -2}": "allowTTL: valid value is between 1s and 30m0s",
		"imagePolicy: {denyTTL: 99999, kubeConfigFile: x}": "denyTTL: valid value",
		"imagePolicy: {kubeConfigFile: /gone}":             "read /gone",
		"imagePolicies: {}":                                "unknown field",
	} {
		if _, err := New(admission.Config{name: []byte(text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
