package route

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	exact  = networkingv1.PathTypeExact
	prefix = networkingv1.PathTypePrefix
	ours   = []*networkingv1.IngressClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "ours"}, Spec: networkingv1.IngressClassSpec{Controller: Controller}},
		{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}, Spec: networkingv1.IngressClassSpec{Controller: "example.com/other"}},
	}
)

func backend(service string) networkingv1.IngressBackend {
	return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: service, Port: networkingv1.ServiceBackendPort{Number: 80}}}
}

// ingress makes an Ingress of a rule per line: "host path service", where "=" before the path makes it exact.
func ingress(name string, age time.Duration, rules string, edit ...func(*networkingv1.Ingress)) *networkingv1.Ingress {
	class := "ours"
	in := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age))},
		Spec: networkingv1.IngressSpec{IngressClassName: &class}}
	for line := range strings.Lines(rules) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		kind := &prefix
		if strings.HasPrefix(f[1], "=") {
			kind = &exact
		}
		in.Spec.Rules = append(in.Spec.Rules, networkingv1.IngressRule{Host: strings.TrimPrefix(f[0], "any"),
			IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{
				{Path: strings.TrimPrefix(f[1], "="), PathType: kind, Backend: backend(f[2])}}}}})
	}
	for _, e := range edit {
		e(in)
	}
	return in
}

func TestFind(t *testing.T) {
	table := Build([]*networkingv1.Ingress{
		ingress("one", time.Hour, `
			foo.com      /         root
			foo.com      /a        a
			foo.com      /a/b/     ab
			foo.com      =/a       a-exact
			foo.com      =/dir/    dir
			*.foo.com    /         wild
			x.foo.com    /only     only
			any          /all      all`),
		ingress("two", time.Minute, `
			foo.com      /a        younger
			FOO.com      /two      two`),
		ingress("default", time.Second, "", func(in *networkingv1.Ingress) { b := backend("default"); in.Spec.DefaultBackend = &b }),
		ingress("foreign", time.Hour, "foreign.com / foreign", func(in *networkingv1.Ingress) { *in.Spec.IngressClassName = "theirs" }),
		ingress("classless", time.Hour, "classless.com / classless", func(in *networkingv1.Ingress) { in.Spec.IngressClassName = nil }),
		ingress("annotated", time.Hour, "annotated.com / annotated", func(in *networkingv1.Ingress) {
			in.Spec.IngressClassName, in.Annotations = nil, map[string]string{classAnnotation: "ours"}
		}),
	}, ours)
	for _, test := range []struct{ host, path, want string }{
		{"foo.com", "/", "root"}, {"foo.com", "", "root"}, {"foo.com", "/other", "root"}, {"FOO.com.", "/", "root"},
		{"foo.com", "/a", "a-exact"}, {"foo.com", "/a/", "a"}, {"foo.com", "/a/x", "a"}, {"foo.com", "/ab", "root"},
		{"foo.com", "/a/b", "ab"}, {"foo.com", "/a/b/c", "ab"}, {"foo.com", "/a/bc", "a"}, {"foo.com", "/two", "two"},
		{"foo.com", "/dir/", "dir"}, {"foo.com", "/dir", "root"},
		{"foo.com", "/a/../a/b", "ab"}, {"foo.com", "/x/../../a/b/..", "a-exact"}, {"foo.com", "//a//b", "ab"}, {"foo.com", "a/b", "ab"},
		{"y.foo.com", "/", "wild"}, {"z.y.foo.com", "/", "default"}, {".foo.com", "/", "default"},
		{"x.foo.com", "/only/this", "only"}, {"x.foo.com", "/", "default"}, // the host that is named decides, not the wildcard
		{"bar.com", "/all", "all"}, {"bar.com", "/", "default"}, {"", "/all", "all"},
		{"foreign.com", "/", "default"}, {"classless.com", "/", "default"}, {"annotated.com", "/", "annotated"},
	} {
		got := "none"
		if r := table.Find(test.host, test.path); r != nil {
			got = r.Backend.Service.Name
		}
		if got != test.want {
			t.Errorf("%s%s goes to %s, want %s", test.host, test.path, got, test.want)
		}
	}
	if want := `[{ns/two path "/a" of host "foo.com" is that of Ingress ns/one}]`; fmt.Sprint(table.Problems) != want {
		t.Errorf("problems %v, want %s", table.Problems, want)
	}
}

func TestNothingSaid(t *testing.T) {
	table := Build([]*networkingv1.Ingress{
		ingress("one", 0, "foo.com /a a"),
		ingress("resource", 0, "bar.com / x", func(in *networkingv1.Ingress) { in.Spec.Rules[0].HTTP.Paths[0].Backend.Service = nil }),
		ingress("whole", 0, "baz.com / x", func(in *networkingv1.Ingress) {
			b := backend("fallback")
			in.Spec.DefaultBackend, in.Spec.Rules[0].HTTP = &b, nil
		}),
	}, ours)
	for _, request := range [][2]string{{"foo.com", "/"}, {"foo.com", "/b"}, {"other.com", "/a"}, {"bar.com", "/"}} {
		if r := table.Find(request[0], request[1]); r != nil {
			t.Errorf("%v goes to %v", request, r)
		}
	}
	if r := table.Find("baz.com", "/any"); r == nil || r.Backend.Service.Name != "fallback" {
		t.Errorf("a rule without paths goes to %v, want the default backend", r)
	}
	if len(table.Problems) != 1 || table.Problems[0].Ingress.Name != "resource" {
		t.Errorf("problems %v", table.Problems)
	}
}

func TestCertificates(t *testing.T) {
	tls := func(redirect bool, entries ...networkingv1.IngressTLS) func(*networkingv1.Ingress) {
		return func(in *networkingv1.Ingress) {
			in.Spec.TLS = entries
			if !redirect {
				in.Annotations = map[string]string{RedirectAnnotation: "false"}
			}
		}
	}
	table := Build([]*networkingv1.Ingress{
		ingress("one", time.Hour, "foo.com / a\nplain.com / b", tls(true, networkingv1.IngressTLS{Hosts: []string{"Foo.com"}, SecretName: "foo"})),
		ingress("two", time.Minute, "foo.com /two c\nsub.bar.com / d", tls(false, networkingv1.IngressTLS{Hosts: []string{"foo.com", "*.bar.com"}, SecretName: "bar"})),
		ingress("all", time.Second, "any /all e", tls(true, networkingv1.IngressTLS{SecretName: "all"})),
	}, ours)
	for host, want := range map[string]string{"foo.com": "foo", "FOO.com": "foo", "sub.bar.com": "bar", "bar.com": "all", "": "all"} {
		if got, _ := table.Secret(host); got.Name != want {
			t.Errorf("certificate of %q is %v, want %s", host, got, want)
		}
	}
	for request, want := range map[[2]string]bool{{"foo.com", "/"}: true, {"foo.com", "/two"}: false, {"plain.com", "/"}: false,
		{"sub.bar.com", "/"}: false, {"other.com", "/all"}: true} {
		if got := table.Find(request[0], request[1]).Redirect; got != want {
			t.Errorf("%v is redirected: %v, want %v", request, got, want)
		}
	}
	var secrets []string
	for s := range table.Secrets() {
		secrets = append(secrets, s.Name)
	}
	if slices.Sort(secrets); !slices.Equal(secrets, []string{"all", "bar", "foo"}) {
		t.Errorf("secrets %v", secrets)
	}
	if len(table.Problems) != 1 || table.Problems[0].Ingress.Name != "two" {
		t.Errorf("problems %v", table.Problems)
	}
}
