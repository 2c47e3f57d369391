package compose

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/nodeagent/podsource/fields"
)

// objectsByName are the ConfigMaps and Secrets of a test.
type objectsByName map[string]map[string]string

func (o objectsByName) ConfigMap(_ context.Context, _, name string) (*corev1.ConfigMap, error) {
	if d, ok := o["cm/"+name]; ok {
		return &corev1.ConfigMap{Data: d}, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
}

func (o objectsByName) Secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	d, ok := o["s/"+name]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
	}
	out := &corev1.Secret{Data: map[string][]byte{}}
	for k, v := range d {
		out.Data[k] = []byte(v)
	}
	return out, nil
}

func TestExpand(t *testing.T) {
	lookup := func(n string) (string, bool) { v, ok := map[string]string{"A": "1", "E": ""}[n]; return v, ok }
	for in, want := range map[string]string{
		"": "", "plain": "plain", "$(A)": "1", "x$(A)y$(A)": "x1y1", "$(E)": "", "$(NO)": "$(NO)", "$$(A)": "$(A)", "$$$(A)": "$1",
		"$(A": "$(A", "$A": "$A", "$": "$", "$$": "$", "$()": "$()", "$($(A))": "$($(A))",
	} {
		if got := expand(in, lookup); got != want {
			t.Errorf("expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	objects := objectsByName{"cm/c": {"k": "v", "z": "9"}, "s/s": {"pw": "secret"}}
	key := func(kind, name, key string, optional bool) *corev1.EnvVarSource {
		o := &optional
		if kind == "cm" {
			return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: o}}
		}
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: o}}
	}
	from := func(name string, optional bool) corev1.EnvFromSource {
		return corev1.EnvFromSource{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Optional: &optional}}
	}
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	for _, tc := range []struct {
		name string
		c    corev1.Container
		want string // the variables that are not services', or the error
	}{
		{"in order, later wins", corev1.Container{Env: []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)2"}, {Name: "A", Value: "3"}}}, "A=3 B=12"},
		{"envFrom with prefix, env over it", corev1.Container{EnvFrom: []corev1.EnvFromSource{from("c", false)}, Env: []corev1.EnvVar{{Name: "P_k", Value: "own"}}}, "P_k=own P_z=9"},
		{"missing envFrom", corev1.Container{EnvFrom: []corev1.EnvFromSource{from("no", false)}}, `configmaps "no" not found`},
		{"missing but optional", corev1.Container{EnvFrom: []corev1.EnvFromSource{from("no", true)}}, ""},
		{"a key of a ConfigMap", corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: key("cm", "c", "k", false)}}}, "A=v"},
		{"a key of a Secret", corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: key("s", "s", "pw", false)}}}, "A=secret"},
		{"a missing key", corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: key("cm", "c", "no", false)}}}, "couldn't find key no in ConfigMap ns/c"},
		{"a missing optional key leaves the variable out", corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: key("s", "s", "no", true)}}}, ""},
		{"a missing Secret", corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: key("s", "no", "pw", false)}}}, `secrets "no" not found`},
		{"fields of the pod", corev1.Container{Env: []corev1.EnvVar{
			{Name: "N", ValueFrom: field("metadata.name")}, {Name: "IP", ValueFrom: field("status.podIP")}, {Name: "H", ValueFrom: field("status.hostIP")},
			{Name: "L", ValueFrom: field("metadata.labels['app']")},
		}}, "N=pod IP=10.1.1.1 H=10.0.0.1 L=web"},
		{"a field that is not offered", corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: field("spec.volumes")}}}, `field path "spec.volumes" is not supported`},
		{"a service", corev1.Container{Env: []corev1.EnvVar{{Name: "U", Value: "http://$(DB_SERVICE_HOST):$(DB_SERVICE_PORT)"}}}, "U=http://10.32.0.5:5432"},
		{"limits not set are the node's", corev1.Container{Env: []corev1.EnvVar{{Name: "M", ValueFrom: &corev1.EnvVarSource{
			ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}}}}, "M=2"},
		{"requests are rounded up", corev1.Container{
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"memory": resource.MustParse("1500Ki")}},
			Env: []corev1.EnvVar{{Name: "M", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{
				Resource: "requests.memory", Divisor: resource.MustParse("1Mi")}}}}}, "M=2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := Pod{
				Pod:     &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod", Namespace: "ns", Labels: map[string]string{"app": "web"}}},
				IPs:     []string{"10.1.1.1"},
				Objects: objects,
				Services: []*corev1.Service{{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "ns"},
					Spec: corev1.ServiceSpec{ClusterIP: "10.32.0.5", Ports: []corev1.ServicePort{{Name: "sql", Port: 5432}}}}},
			}
			node := Node{Node: fields.Node{HostIPs: []string{"10.0.0.1"}, Allocatable: corev1.ResourceList{"cpu": resource.MustParse("1500m")}}}
			v, err := environment(t.Context(), pod, &tc.c, node)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = strings.Join(slices.DeleteFunc(v.list(), func(s string) bool { return strings.HasPrefix(s, "DB_") }), " ")
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestServiceVariables(t *testing.T) {
	service := func(ns, name, ip string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns}, Spec: corev1.ServiceSpec{ClusterIP: ip,
			Ports: []corev1.ServicePort{{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP}}}}
	}
	services := []*corev1.Service{service("default", "kubernetes", "10.32.0.1"), service("ns", "my-db", "10.32.0.2"),
		service("ns", "headless", "None"), service("other", "x", "10.32.0.3")}
	got := serviceVariables(Pod{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}}, Services: services})
	for k, v := range map[string]string{
		"KUBERNETES_SERVICE_HOST": "10.32.0.1", "MY_DB_SERVICE_HOST": "10.32.0.2", "MY_DB_SERVICE_PORT": "443", "MY_DB_SERVICE_PORT_HTTPS": "443",
		"MY_DB_PORT": "tcp://10.32.0.2:443", "MY_DB_PORT_443_TCP": "tcp://10.32.0.2:443", "MY_DB_PORT_443_TCP_PROTO": "tcp",
		"MY_DB_PORT_443_TCP_PORT": "443", "MY_DB_PORT_443_TCP_ADDR": "10.32.0.2", "HEADLESS_SERVICE_HOST": "", "X_SERVICE_HOST": "",
	} {
		if got[k] != v {
			t.Errorf("%s=%q, want %q", k, got[k], v)
		}
	}
	off := false
	got = serviceVariables(Pod{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: corev1.PodSpec{EnableServiceLinks: &off}}, Services: services})
	if got["KUBERNETES_SERVICE_HOST"] == "" || got["MY_DB_SERVICE_HOST"] != "" {
		t.Errorf("without service links: %v", got)
	}
}

func TestArguments(t *testing.T) {
	img := Image{Entrypoint: []string{"/ep"}, Command: []string{"cmd"}}
	for _, tc := range []struct{ command, args, want string }{
		{"", "", "/ep cmd"}, {"", "x", "/ep x"}, {"c", "", "c"}, {"c d", "x", "c d x"},
	} {
		c := &corev1.Container{Command: strings.Fields(tc.command), Args: strings.Fields(tc.args)}
		if got := strings.Join(arguments(c, img, func(string) (string, bool) { return "", false }), " "); got != tc.want {
			t.Errorf("command %q args %q: got %q, want %q", tc.command, tc.args, got, tc.want)
		}
	}
}

func TestResolvConf(t *testing.T) {
	dns := DNS{Servers: []string{"10.32.0.10"}, Domain: "cluster.local", Host: ParseResolver("nameserver 1.1.1.1\nsearch lan.\noptions timeout:2 rotate\n")}
	cluster := "search ns.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.32.0.10\noptions ndots:5\n"
	host := "search lan\nnameserver 1.1.1.1\noptions timeout:2 rotate\n"
	two := "2"
	for _, tc := range []struct {
		name string
		spec corev1.PodSpec
		want string
	}{
		{"cluster first", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, cluster},
		{"not with the host's network", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, HostNetwork: true}, host},
		{"unless asked for", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirstWithHostNet, HostNetwork: true}, cluster},
		{"default is the host's", corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, host},
		{"none with config", corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"9.9.9.9"},
			Searches: []string{"a.b"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: &two}}}}, "search a.b\nnameserver 9.9.9.9\noptions ndots:2\n"},
		{"config adds and replaces", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"10.32.0.10", "9.9.9.9"},
			Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: &two}, {Name: "edns0"}}}},
			"search ns.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.32.0.10\nnameserver 9.9.9.9\noptions ndots:2 edns0\n"},
	} {
		got, warning := ResolvConf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: tc.spec}, dns)
		if got != tc.want || warning != "" {
			t.Errorf("%s: got %q (%s), want %q", tc.name, got, warning, tc.want)
		}
	}
	if _, w := ResolvConf(&corev1.Pod{}, DNS{}); !strings.Contains(w, "does not have ClusterDNS") {
		t.Errorf("without cluster DNS: %q", w)
	}
	many := corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"1.0.0.1", "1.0.0.2", "1.0.0.3", "1.0.0.4"}}}
	if text, w := ResolvConf(&corev1.Pod{Spec: many}, dns); strings.Contains(text, "1.0.0.4") || !strings.Contains(w, "Nameserver limits") {
		t.Errorf("too many servers: %q %q", text, w)
	}
}

func TestHostname(t *testing.T) {
	node := Node{Hostname: "node-1", DNS: DNS{Domain: "cluster.local"}}
	yes := true
	long := strings.Repeat("a", 62) + "-b"
	for _, tc := range []struct {
		spec         corev1.PodSpec
		name, domain string
	}{
		{corev1.PodSpec{}, "pod", ""},
		{corev1.PodSpec{Hostname: "h"}, "h", ""},
		{corev1.PodSpec{Hostname: "h", Subdomain: "sub"}, "h", "sub.ns.svc.cluster.local"},
		{corev1.PodSpec{Hostname: "h", Subdomain: "sub", SetHostnameAsFQDN: &yes}, "h.sub.ns.svc.cluster.local", "sub.ns.svc.cluster.local"},
		{corev1.PodSpec{HostNetwork: true}, "node-1", ""},
		{corev1.PodSpec{HostnameOverride: &long}, strings.Repeat("a", 62), ""},
	} {
		name, domain, err := Hostname(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod", Namespace: "ns"}, Spec: tc.spec}, node)
		if err != nil || name != tc.name || domain != tc.domain {
			t.Errorf("%+v: %q %q %v", tc.spec, name, domain, err)
		}
	}
	tooLong := corev1.PodSpec{Hostname: strings.Repeat("a", 60), Subdomain: "sub", SetHostnameAsFQDN: &yes}
	if _, _, err := Hostname(&corev1.Pod{Spec: tooLong}, node); err == nil {
		t.Error("a name of more than 64 characters was accepted")
	}
}

func TestHosts(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod", Namespace: "ns"}, Spec: corev1.PodSpec{Subdomain: "sub",
		HostAliases: []corev1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"x", "y"}}}}}
	got, err := Hosts(pod, Node{DNS: DNS{Domain: "cluster.local"}}, []string{"10.1.1.1"}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"# Kubernetes-managed hosts file.\n", "127.0.0.1\tlocalhost\n", "10.1.1.1\tpod.sub.ns.svc.cluster.local\tpod\n", "1.2.3.4\tx\ty\n"} {
		if !strings.Contains(got, line) {
			t.Errorf("no %q in %q", line, got)
		}
	}
	pod.Spec.HostNetwork = true
	if got, _ = Hosts(pod, Node{}, nil, "1.1.1.1 host\n"); !strings.Contains(got, "1.1.1.1 host\n") || strings.Contains(got, "ip6-localnet") {
		t.Errorf("with the host's network: %q", got)
	}
}

func TestRunAs(t *testing.T) {
	id := func(n int64) *int64 { return &n }
	yes := true
	for _, tc := range []struct {
		name      string
		pod       *corev1.PodSecurityContext
		container *corev1.SecurityContext
		image     string
		want      string
		err       string
	}{
		{"the image's", nil, nil, "web", "web", ""},
		{"the pod's", &corev1.PodSecurityContext{RunAsUser: id(5)}, nil, "web", "5", ""},
		{"the container's wins", &corev1.PodSecurityContext{RunAsUser: id(5), RunAsGroup: id(6)}, &corev1.SecurityContext{RunAsUser: id(7)}, "", "7:6", ""},
		{"group only keeps the image's user", nil, &corev1.SecurityContext{RunAsGroup: id(6)}, "web:web", "web:6", ""},
		{"group only, no user", nil, &corev1.SecurityContext{RunAsGroup: id(6)}, "", "0:6", ""},
		{"root is refused", nil, &corev1.SecurityContext{RunAsNonRoot: &yes, RunAsUser: id(0)}, "", "", "container's runAsUser breaks non-root policy"},
		{"so is an image of root", nil, &corev1.SecurityContext{RunAsNonRoot: &yes}, "", "", "image will run as root"},
		{"and root by number", nil, &corev1.SecurityContext{RunAsNonRoot: &yes}, "0:0", "", "image will run as root"},
		{"a name proves nothing", nil, &corev1.SecurityContext{RunAsNonRoot: &yes}, "web", "", "non-numeric user (web)"},
		{"a number does", nil, &corev1.SecurityContext{RunAsNonRoot: &yes}, "1000", "1000", ""},
		{"the pod's rule counts", &corev1.PodSecurityContext{RunAsNonRoot: &yes}, nil, "", "", "image will run as root"},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: tc.pod}}
		got, err := runAs(pod, &corev1.Container{SecurityContext: tc.container}, Image{User: tc.image})
		if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: got %q, %v", tc.name, got, err)
		}
	}
}

func TestSecurity(t *testing.T) {
	yes, no := true, false
	profile := func(kind corev1.SeccompProfileType, path *string) *corev1.SeccompProfile {
		return &corev1.SeccompProfile{Type: kind, LocalhostProfile: path}
	}
	good, bad := "a.json", "../a.json"
	node := Node{SeccompDefault: true, SeccompDir: "/seccomp"}
	for _, tc := range []struct {
		name string
		c    *corev1.SecurityContext
		want string
		err  bool
	}{
		{"default", nil, "RuntimeDefault", false},
		{"asked for none", &corev1.SecurityContext{SeccompProfile: profile(corev1.SeccompProfileTypeUnconfined, nil)}, "Unconfined", false},
		{"local file", &corev1.SecurityContext{SeccompProfile: profile(corev1.SeccompProfileTypeLocalhost, &good)}, "Localhost:/seccomp/a.json", false},
		{"a missing name is not none", &corev1.SecurityContext{SeccompProfile: profile(corev1.SeccompProfileTypeLocalhost, nil)}, "", true},
		{"a path that leaves the folder", &corev1.SecurityContext{SeccompProfile: profile(corev1.SeccompProfileTypeLocalhost, &bad)}, "", true},
		{"privileged has none", &corev1.SecurityContext{Privileged: &yes}, "Unconfined", false},
	} {
		got, err := securityOf(&corev1.Pod{}, &corev1.Container{SecurityContext: tc.c}, node)
		if (err != nil) != tc.err || err == nil && got.Seccomp != tc.want {
			t.Errorf("%s: %+v, %v", tc.name, got, err)
		}
	}
	got, err := securityOf(&corev1.Pod{}, &corev1.Container{SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no,
		ReadOnlyRootFilesystem: &yes, Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"CAP_NET_ADMIN", "sys_time"}, Drop: []corev1.Capability{"ALL"}}}}, node)
	if err != nil || !got.NoNewPrivileges || !got.ReadOnlyRoot || strings.Join(got.AddCapabilities, ",") != "NET_ADMIN,SYS_TIME" || got.DropCapabilities[0] != "ALL" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestResources(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		l := corev1.ResourceList{}
		if cpu != "" {
			l["cpu"] = resource.MustParse(cpu)
		}
		if memory != "" {
			l["memory"] = resource.MustParse(memory)
		}
		return l
	}
	node := Node{CPUQuota: true, CPUPeriod: 100_000, MemoryCapacity: 10 << 30, CgroupRoot: "hw"}
	for _, tc := range []struct {
		name             string
		requests, limits corev1.ResourceList
		parent           string
		shares           uint64
		quota, memory    int64
		adj              int
	}{
		{"best effort", nil, nil, "hw/besteffort/podu", 2, 0, 0, 1000},
		{"burstable", list("500m", "1Gi"), list("", "2Gi"), "hw/burstable/podu", 512, 0, 2 << 30, 900},
		{"guaranteed", list("2", "1Gi"), list("2", "1Gi"), "hw/podu", 2048, 200_000, 1 << 30, -997},
		{"a limit is a request", nil, list("2", "1Gi"), "hw/podu", 2048, 200_000, 1 << 30, -997},
		{"tiny", list("1m", ""), list("1m", ""), "hw/burstable/podu", 2, 1000, 0, 999},
	} {
		c := corev1.Container{Resources: corev1.ResourceRequirements{Requests: tc.requests, Limits: tc.limits}}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}, Spec: corev1.PodSpec{Containers: []corev1.Container{c}}}
		r := ContainerResources(pod, &c, node)
		if CgroupParent(pod, node) != tc.parent || r.CPUShares != tc.shares || r.CPUQuota != tc.quota || r.MemoryLimit != tc.memory || r.OOMScoreAdj != tc.adj {
			t.Errorf("%s: %s %+v", tc.name, CgroupParent(pod, node), r)
		}
	}
	both := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Resources: corev1.ResourceRequirements{Limits: list("1", "1Gi"), Requests: list("1", "1Gi")}},
		{Resources: corev1.ResourceRequirements{Requests: list("1", "1Gi"), Limits: list("1", "")}},
	}}}
	if r := PodResources(both, node); r.CPUShares != 2048 || r.CPUQuota != 200_000 || r.MemoryLimit != 0 {
		t.Errorf("a pod is limited only where all its containers are: %+v", r)
	}
}

func TestMounts(t *testing.T) {
	ro := corev1.RecursiveReadOnlyIfPossible
	pod := Pod{
		Pod: &corev1.Pod{Spec: corev1.PodSpec{Volumes: []corev1.Volume{
			{Name: "cm", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}},
			{Name: "e", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		}}},
		Dir: "/pod", Volumes: map[string]string{"cm": "/vol/cm", "e": "/vol/e"},
	}
	lookup := func(n string) (string, bool) { return "sub-" + n, n == "A" }
	c := &corev1.Container{Name: "c", VolumeMounts: []corev1.VolumeMount{
		{Name: "e", MountPath: "/a/b/c", SubPathExpr: "$(A)", ReadOnly: true, RecursiveReadOnly: &ro},
		{Name: "cm", MountPath: "/etc/hosts", SubPath: "hosts"},
	}}
	got, err := mountsOf(pod, c, 3, lookup)
	if err != nil {
		t.Fatal(err)
	}
	byTarget := map[string]string{}
	for _, m := range got {
		byTarget[m.Target] = m.Source + ":" + m.SubPath
		if m.Target == "/etc/hosts" && !m.ReadOnly || m.Target == "/a/b/c" && (!m.ReadOnly || !m.Recursive) {
			t.Errorf("%+v", m)
		}
	}
	for target, want := range map[string]string{
		"/a/b/c": "/vol/e:sub-A", "/etc/hosts": "/vol/cm:hosts", "/etc/resolv.conf": "/pod/etc/resolv.conf:", "/etc/hostname": "/pod/etc/hostname:",
		"/dev/termination-log": "/pod/containers/c/3:",
	} {
		if byTarget[target] != want {
			t.Errorf("%s: %q, want %q", target, byTarget[target], want)
		}
	}
	if got[len(got)-1].Target != "/a/b/c" {
		t.Error("deeper mounts come last")
	}
	for name, m := range map[string]corev1.VolumeMount{
		"unknown volume": {Name: "no", MountPath: "/x"}, "absolute": {Name: "e", MountPath: "/x", SubPath: "/abs"},
		"leaves the volume": {Name: "e", MountPath: "/x", SubPath: "a/../../b"}, "unknown variable": {Name: "e", MountPath: "/x", SubPathExpr: "$(NO)"},
	} {
		if _, err := mountsOf(pod, &corev1.Container{VolumeMounts: []corev1.VolumeMount{m}}, 0, lookup); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestStopSignal(t *testing.T) {
	sig := corev1.SIGUSR1
	got, err := StopSignal(&corev1.Container{Lifecycle: &corev1.Lifecycle{StopSignal: &sig}})
	if err != nil || got != syscall.SIGUSR1 {
		t.Errorf("%v %v", got, err)
	}
	if got, err := StopSignal(&corev1.Container{}); got != 0 || err != nil {
		t.Errorf("none: %v %v", got, err)
	}
}
