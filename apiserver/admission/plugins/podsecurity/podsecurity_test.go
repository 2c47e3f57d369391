package podsecurity

import (
	"context"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/apiserver/admission"
	"hardway/apiserver/kinds/apps"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/request"
)

// world has one namespace with these labels, and these pods.
type world struct {
	labels map[string]string
	pods   []*corev1.Pod
}

func (w world) Namespace(_ context.Context, name string) (*corev1.Namespace, error) {
	if name == "gone" {
		return nil, fmt.Errorf("namespaces %q not found", name)
	}
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: w.labels}}, nil
}

func (w world) Pods(context.Context, string) ([]*corev1.Pod, error) { return w.pods, nil }

// labels reads "enforce=baseline warn=restricted".
func labels(text string) map[string]string {
	out := map[string]string{}
	for _, word := range strings.Fields(text) {
		key, value, _ := strings.Cut(word, "=")
		out["pod-security.kubernetes.io/"+key] = value
	}
	return out
}

// plain is a pod that baseline lets through and restricted does not.
func plain(change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	for _, f := range change {
		f(p)
	}
	return p
}

func hostNetwork(p *corev1.Pod) { p.Spec.HostNetwork = true }

func class(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.RuntimeClassName = &name }
}

// ask lets the plugin judge, and returns what a user and the audit log see.
func ask(t *testing.T, conf string, w world, user string, a *admission.Attributes) (refusal string, warnings []string, notes map[string]string) {
	t.Helper()
	var c admission.Config
	if conf != "" {
		c = admission.Config{name: []byte("kind: PodSecurityConfiguration\napiVersion: pod-security.admission.config.k8s.io/v1\n" + conf)}
	}
	p, err := New(c, w)
	if err != nil {
		t.Fatal(err)
	}
	state := &request.State{User: &request.UserInfo{Name: user}}
	if err := p.Validate(request.With(t.Context(), state), a); err != nil {
		refusal = err.Error()
	}
	return refusal, state.TakeWarnings(), state.Annotations()
}

func TestPods(t *testing.T) {
	const hostRefusal = `pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`
	exempt := "exemptions: {usernames: [root], namespaces: [free], runtimeClasses: [vm]}\n"
	added := func(p *corev1.Pod) {
		hostNetwork(p)
		p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", Image: "i"}}}
	}
	update := func(sub string, old, now *corev1.Pod) *admission.Attributes {
		return &admission.Attributes{Kind: core.Pod, Operation: admission.Update, Subresource: sub, Namespace: "ns", Name: "p", Old: old, Object: now}
	}
	create := func(namespace string, p *corev1.Pod) *admission.Attributes {
		return &admission.Attributes{Kind: core.Pod, Operation: admission.Create, Namespace: namespace, Object: p}
	}
	for name, c := range map[string]struct {
		conf, labels, user string
		a                  *admission.Attributes
		refusal, warning   string
		notes              []string
	}{
		"no labels":            {"", "", "u", create("ns", plain(hostNetwork)), "", "", []string{"enforce-policy=privileged:latest"}},
		"enforced":             {"", "enforce=baseline", "u", create("ns", plain(hostNetwork)), hostRefusal, "", []string{"enforce-policy=baseline:latest"}},
		"enforced and kept":    {"", "enforce=baseline", "u", create("ns", plain()), "", "", []string{"enforce-policy=baseline:latest"}},
		"warned":               {"", "warn=baseline", "u", create("ns", plain(hostNetwork)), "", `would violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`, nil},
		"noted":                {"", "audit=baseline", "u", create("ns", plain(hostNetwork)), "", "", []string{"audit-violations=would violate PodSecurity"}},
		"enforced by default":  {"defaults: {enforce: baseline}", "", "u", create("ns", plain(hostNetwork)), hostRefusal, "", nil},
		"labels over defaults": {"defaults: {enforce: baseline}", "enforce=privileged", "u", create("ns", plain(hostNetwork)), "", "", nil},
		"restricted":           {"", "enforce=restricted", "u", create("ns", plain()), `violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)`, "", nil},
		"an old version":       {"", "enforce=restricted enforce-version=v1.0", "u", create("ns", plain()), `violates PodSecurity "restricted:v1.0": runAsNonRoot != true`, "", nil},
		"exempt user":          {exempt, "enforce=baseline", "root", create("ns", plain(hostNetwork)), "", "", []string{"exempt=user"}},
		"exempt namespace":     {exempt, "enforce=baseline", "u", create("free", plain(hostNetwork)), "", "", []string{"exempt=namespace"}},
		"exempt class":         {exempt, "enforce=baseline", "u", create("ns", plain(hostNetwork, class("vm"))), "", "", []string{"exempt=runtimeClass"}},
		"another class":        {exempt, "enforce=baseline", "u", create("ns", plain(hostNetwork, class("x"))), hostRefusal, "", nil},
		"the namespace is gone": {"", "", "u", create("gone", plain()),
			`failed to lookup namespace "gone"`, "", nil},
		"labels that mean nothing": {"", "enforce=loose", "u", create("ns", plain()), `violates PodSecurity "restricted:latest"`, "", []string{"error=Failed to parse policy"}},

		"relabelled":                {"", "enforce=baseline", "u", update("", plain(hostNetwork), plain(hostNetwork)), "", "", nil},
		"another image":             {"", "enforce=baseline", "u", update("", plain(hostNetwork), plain(hostNetwork, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "j" })), hostRefusal, "", nil},
		"an ephemeral container":    {"", "enforce=baseline", "u", update("ephemeralcontainers", plain(hostNetwork), plain(added)), hostRefusal, "", nil},
		"bound to a node":           {"", "enforce=baseline", "u", update("binding", plain(hostNetwork), plain(added)), "", "", nil},
		"a new init container":      {"", "enforce=baseline", "u", update("", plain(hostNetwork), plain(hostNetwork, func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "i"}} })), hostRefusal, "", nil},
		"a subresource of tomorrow": {"", "enforce=baseline", "u", update("hotpatch", plain(hostNetwork), plain(added)), hostRefusal, "", nil},
	} {
		refusal, warnings, notes := ask(t, c.conf, world{labels: labels(c.labels)}, c.user, c.a)
		if c.refusal == "" && refusal != "" || !strings.Contains(refusal, c.refusal) {
			t.Errorf("%s: refused with %q, want %q", name, refusal, c.refusal)
		}
		if got := strings.Join(warnings, "; "); c.warning == "" && got != "" && c.refusal == "" || !strings.Contains(got, c.warning) {
			t.Errorf("%s: warned with %q, want %q", name, got, c.warning)
		}
		for _, note := range c.notes {
			key, value, _ := strings.Cut(note, "=")
			if got := notes["pod-security.kubernetes.io/"+key]; !strings.HasPrefix(got, value) {
				t.Errorf("%s: noted %v, want %s", name, notes, note)
			}
		}
	}
}

func TestWorkloads(t *testing.T) {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "ns"}}
	d.Spec.Template.Spec = plain(hostNetwork).Spec
	for _, c := range []struct {
		labels string
		sub    string
		want   string
	}{
		{"enforce=baseline", "", `would violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`}, // warn follows enforce
		{"enforce=baseline warn=privileged", "", ""},
		{"warn=baseline", "", `would violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`},
		{"warn=baseline", "status", ""},
	} {
		refusal, warnings, _ := ask(t, "", world{labels: labels(c.labels)}, "u", &admission.Attributes{
			Kind: apps.Deployment, Operation: admission.Create, Subresource: c.sub, Namespace: "ns", Object: d,
		})
		if got := strings.Join(warnings, "; "); refusal != "" || got != c.want {
			t.Errorf("%s %s: refused %q, warned %q, want %q", c.labels, c.sub, refusal, got, c.want)
		}
	}
}

func TestNamespaces(t *testing.T) {
	yes := true
	of := func(name string, owner string, change ...func(*corev1.Pod)) *corev1.Pod {
		p := plain(change...)
		p.Name = name
		if owner != "" {
			p.OwnerReferences = []metav1.OwnerReference{{UID: types.UID(owner), Controller: &yes}}
		}
		return p
	}
	w := world{pods: []*corev1.Pod{of("good", ""), of("b", "rs", hostNetwork), of("a", "rs", hostNetwork), of("vm", "", hostNetwork, class("vm")), of("c", "rs", hostNetwork)}}
	const conf = "exemptions: {namespaces: [free], runtimeClasses: [vm]}"
	for name, c := range map[string]struct {
		name, old, now string
		refusal, warn  string
	}{
		"new, good labels":  {"ns", "-", "enforce=baseline", "", ""},
		"new, bad labels":   {"ns", "-", "enforce=loose", `metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "loose": must be one of privileged, baseline, restricted`, ""},
		"new, exempt":       {"free", "-", "enforce=baseline warn=restricted", "", `namespace "free" is exempt from Pod Security, and the policy (enforce=baseline:latest, warn=restricted:latest) will be ignored`},
		"bad labels stay":   {"ns", "enforce=loose", "enforce=loose", "", ""},
		"bad labels come":   {"ns", "", "enforce-version=1", `must be "latest" or "v1.x"`, ""},
		"stricter":          {"ns", "", "enforce=baseline", "", `existing pods in namespace "ns" violate the new PodSecurity enforce level "baseline:latest"; a (and 2 other pods): host namespaces`},
		"looser":            {"ns", "enforce=restricted", "enforce=baseline", "", ""},
		"another version":   {"ns", "enforce=restricted", "enforce=baseline enforce-version=v1.20", "", `"baseline:v1.20"; a (and 2 other pods): host namespaces`},
		"stricter, exempt":  {"free", "", "enforce=baseline", "", `namespace "free" is exempt`},
		"only warn changes": {"ns", "", "warn=restricted", "", ""},
	} {
		a := &admission.Attributes{Kind: core.Namespace, Operation: admission.Update, Name: c.name,
			Object: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.name, Labels: labels(c.now)}}}
		if c.old == "-" {
			a.Operation = admission.Create
		} else {
			a.Old = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.name, Labels: labels(c.old)}}
		}
		refusal, warnings, _ := ask(t, conf, w, "u", a)
		if c.refusal == "" && refusal != "" || !strings.Contains(refusal, c.refusal) {
			t.Errorf("%s: refused with %q, want %q", name, refusal, c.refusal)
		}
		if got := strings.Join(warnings, "; "); c.warn == "" && got != "" || !strings.Contains(got, c.warn) {
			t.Errorf("%s: warned with %q, want %q", name, got, c.warn)
		}
	}
}

func TestConfiguration(t *testing.T) {
	for text, want := range map[string]string{
		"defaults: {enforce: loose}":              `defaults.enforce: "loose": must be one of`,
		"defaults: {audit-version: '1'}":          `defaults.audit-version: "1": must be "latest"`,
		"exemptions: {usernames: ['']}":           "exemptions.usernames[0]: must not be empty",
		"exemptions: {namespaces: [A_b]}":         `exemptions.namespaces[0]: "A_b"`,
		"exemptions: {runtimeClasses: [a, a]}":    `exemptions.runtimeClasses[1]: "a" stands there twice`,
		"exemption: {}":                           "unknown field",
		"{apiVersion: v7, defaults: {warn: all}}": `apiVersion: "v7" is unknown`,
	} {
		if !strings.HasPrefix(text, "{") {
			text = "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n" + text
		} else {
			text = strings.Replace(text, "{", "{kind: PodSecurityConfiguration, ", 1)
		}
		_, err := New(admission.Config{name: []byte(text)}, world{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
