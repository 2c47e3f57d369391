//go:build e2e

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRefused: what cannot be right is refused at once, with the field's name.
func TestRefused(t *testing.T) {
	u := newUser(t)
	hello := example(t, "hello.yaml")
	for _, row := range []struct {
		name, manifest string
		want           []string
	}{
		{"unknown field", strings.Replace(hello, "replicas: 3", "replica: 3", 1), []string{`unknown field "spec.replica"`}},
		{"unknown field deep inside", strings.Replace(hello, "periodSeconds: 1", "periodSecond: 1", 1), []string{`unknown field "spec.template.spec.containers[0].readinessProbe.periodSecond"`}},
		{"wrong type", strings.Replace(hello, "replicas: 3", "replicas: three", 1), []string{"cannot unmarshal string", "spec.replicas of type int32"}},
		{"bad quantity", strings.Replace(hello, "cpu: 10m", "cpu: ten", 1), []string{"quantities must match"}},
		{"selector without the template's labels", strings.Replace(hello, "matchLabels: {app: hello}", "matchLabels: {app: other}", 1), []string{"spec.template.metadata.labels", "`selector` does not match template `labels`"}},
		{"no image and no name", "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{}]}}", []string{"spec.containers[0].name", "Required value"}},
		{"bad name", "{apiVersion: v1, kind: ConfigMap, metadata: {name: Not_Valid}}", []string{"metadata.name", "RFC 1123"}},
		// kubectl looks for a custom resource of that kind, and says that there is no such thing yet.
		{"unknown kind", "{apiVersion: v1, kind: Wolpertinger, metadata: {name: w}}", []string{"no matches for kind", "Wolpertinger"}},
		{"no such namespace", "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: nowhere}}", []string{"nowhere"}},
		{"not YAML", "a: b: c", []string{"error"}},
		{"node port outside the range", "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: NodePort, ports: [{port: 1, nodePort: 80}]}}", []string{"spec.ports[0].nodePort", "30000-32767"}},
		{"address outside the range", "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: 1.2.3.4, ports: [{port: 1}]}}", []string{"spec.clusterIP", "10.32.0.0/24"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := u.try(t, row.manifest, "apply", "-f", "-")
			if err == nil {
				t.Fatal("it was accepted")
			}
			contains(t, err.Error(), row.want...)
		})
	}
}

func TestNodePortClash(t *testing.T) {
	u := newUser(t)
	const service = "{apiVersion: v1, kind: Service, metadata: {name: %s}, spec: {type: NodePort, ports: [{port: 1, nodePort: 31999}]}}"
	u.apply(t, fmt.Sprintf(service, "first"))
	_, err := u.try(t, fmt.Sprintf(service, "second"), "apply", "-f", "-")
	if err == nil {
		t.Fatal("two services have one node port")
	}
	contains(t, err.Error(), "31999", "provided port is already allocated")
	u.kubectl(t, "delete service first")
	u.apply(t, fmt.Sprintf(service, "second"))
}

// TestPodsThatCannotRun: a pod that the API takes and the node cannot run says why, in its status and in an event.
func TestPodsThatCannotRun(t *testing.T) {
	u := newUser(t)
	const pod = "{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {terminationGracePeriodSeconds: 1, containers: [%s]%s}}"
	const status = "{.status.conditions[*].message} {.status.containerStatuses[*].state.waiting} {.status.containerStatuses[*].lastState}"
	for _, row := range []struct {
		name, container, more string
		status                []string // in the pod's status
		event                 []string // in one of its events
	}{
		{"image-missing", `{name: c, image: "registry.invalid/no/such:1"}`, "", []string{"ImagePullBackOff"}, []string{"Failed", "registry.invalid/no/such:1"}},
		{"image-never", `{name: c, image: "not/here:1", imagePullPolicy: Never}`, "", []string{"ErrImageNeverPull"}, []string{"not/here:1"}},
		{"exits", `{name: c, image: "busybox:1.35", command: [sh, -c, "exit 3"]}`, "", []string{"CrashLoopBackOff", `"exitCode":3`}, []string{"BackOff", "restarting failed container"}},
		{"no-program", `{name: c, image: "busybox:1.35", command: [/no/such/program]}`, "", []string{"/no/such/program"}, []string{"Failed", "/no/such/program"}},
		{"no-configmap", `{name: c, image: "busybox:1.35", envFrom: [{configMapRef: {name: absent}}]}`, "", []string{"CreateContainerConfigError"}, []string{"Failed", `"absent" not found`}},
		{"too-big", `{name: c, image: "busybox:1.35", resources: {requests: {cpu: "10000"}}}`, "", []string{"Insufficient cpu"}, []string{"FailedScheduling", "Insufficient cpu"}},
		{"no-such-node", `{name: c, image: "busybox:1.35"}`, ", nodeSelector: {disk: golden}", []string{"didn't match Pod's node affinity/selector"}, []string{"FailedScheduling"}},
		{"liveness", `{name: c, image: "busybox:1.35", command: [sleep, "1000"], livenessProbe: {exec: {command: ["false"]}, periodSeconds: 1, failureThreshold: 1}}`, "", nil, []string{"Unhealthy", "Liveness probe failed"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			u.apply(t, fmt.Sprintf(pod, row.name, row.container, row.more))
			wait(t, "the status says why", 60*time.Second, func() error {
				out, err := u.try(t, "", "get", "pod", row.name, "-o", "jsonpath="+status)
				return lacks(out, err, row.status)
			})
			wait(t, "an event says why", 30*time.Second, func() error {
				out, err := u.try(t, "", "get", "events", "--field-selector", "involvedObject.name="+row.name)
				return lacks(out, err, row.event)
			})
			u.kubectl(t, "delete pod "+row.name+" --timeout=30s")
		})
	}
}

func lacks(text string, err error, words []string) error {
	for _, word := range words {
		if err == nil && !strings.Contains(text, word) {
			return fmt.Errorf("%q is missing in: %s", word, text)
		}
	}
	return err
}

// TestHostPortClash: the second pod that wants a port of the one node waits, and gets it when the first is gone.
func TestHostPortClash(t *testing.T) {
	u := newUser(t)
	const pod = `{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: "hardway/hello:1", ports: [{containerPort: 8080, hostPort: 31555}]}]}}`
	u.apply(t, fmt.Sprintf(pod, "first"))
	u.kubectl(t, "wait pod/first --for=condition=Ready --timeout=30s")
	u.apply(t, fmt.Sprintf(pod, "second"))
	wait(t, "FailedScheduling", 20*time.Second, func() error {
		out, err := u.try(t, "", "get", "events", "--field-selector", "involvedObject.name=second")
		return lacks(out, err, []string{"FailedScheduling", "didn't have free ports"})
	})
	u.kubectl(t, "delete pod first")
	u.kubectl(t, "wait pod/second --for=condition=Ready --timeout=30s")
}

// TestNotAllowed: without a certificate of the cluster there is an answer to health and version only.
func TestNotAllowed(t *testing.T) {
	ca, err := os.ReadFile(filepath.Join(state, "pki", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	anonymous := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	for path, want := range map[string]int{
		"/healthz": 200, "/livez": 200, "/readyz": 200, "/version": 200,
		"/api/v1/namespaces/default/secrets": 401, "/api": 401, "/apis": 401, "/metrics": 401, "/debug/pprof/": 401, "/openapi/v2": 401,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://127.0.0.1:6443"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := anonymous.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s without a certificate: %s, want %d", path, resp.Status, want)
		}
	}
}
