//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func TestNodesAreReady(t *testing.T) {
	out := user{"default"}.kubectl(t, "get nodes")
	if !regexp.MustCompile(`(?m)^\S+\s+Ready\s+\S+\s+\S+\s+v1\.36\.3`).MatchString(out) {
		t.Errorf("no Ready node of version v1.36.3:\n%s", out)
	}
	contains(t, user{"default"}.kubectl(t, "describe nodes"), "Allocatable:", "PodCIDR:", "KubeletReady", "InternalIP:")
}

func TestVersions(t *testing.T) {
	contains(t, user{"default"}.kubectl(t, "version"), "Client Version: v1.36.3", "Server Version: v1.36.3")
	contains(t, user{"default"}.kubectl(t, "api-resources"), "deployments", "apps/v1", "configmaps", "leases")
	contains(t, user{"default"}.kubectl(t, "explain deployment.spec.strategy"), "rollingUpdate", "RollingUpdate")
	contains(t, user{"default"}.kubectl(t, "cluster-info"), "control plane")
}

func TestSampleOfMakeUp(t *testing.T) {
	out := user{"default"}.kubectl(t, "get deployment hello")
	contains(t, out, "3/3")
}

// TestExamples applies the folder as the README says.
func TestExamples(t *testing.T) {
	u := user{"default"}
	u.kubectl(t, "apply -f "+filepath.Join(root, "examples")+"/")
	u.kubectl(t, "rollout status deployment/hello --timeout=60s")
	u.kubectl(t, "wait pod/settings --for=condition=Ready --timeout=30s")
	wait(t, "the pod's log", 10*time.Second, func() error {
		out, err := u.try(t, "", "logs", "settings")
		if err == nil && !strings.Contains(out, "good morning from settings") {
			return fmt.Errorf("log %q", out)
		}
		return err
	})
	if out := u.kubectl(t, "exec settings -- cat /etc/settings/colour /etc/credentials/password"); out != "blueopen sesame" {
		t.Errorf("files of the ConfigMap and Secret hold %q", out)
	}
	if out := u.run(t, "", "exec", "settings", "--", "sh", "-c", "echo $GREETING, $PASSWORD"); out != "good morning, open sesame\n" {
		t.Errorf("environment says %q", out)
	}
	u.kubectl(t, "delete pod settings --wait=false")
}

func TestGetFormats(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	pod := u.pods(t)[0]

	for _, row := range []struct {
		args string
		want []string
	}{
		{"get pods", []string{"NAME", "READY", "STATUS", "RESTARTS", "AGE", "1/1", "Running"}},
		{"get pods -o wide", []string{"IP", "NODE", pod.Status.PodIP, pod.Spec.NodeName}},
		{"get pods -o name", []string{"pod/" + pod.Name}},
		{"get pods --show-labels", []string{"LABELS", "app=hello,pod-template-hash="}},
		{"get pods,services -l app=hello", []string{"pod/" + pod.Name}},
		{"get pods -A", []string{"NAMESPACE", u.namespace}},
		{"get pods --field-selector status.phase=Running", []string{pod.Name}},
		{"get deployments -o wide", []string{"UP-TO-DATE", "AVAILABLE", "hardway/hello:1", "app=hello"}},
		{"get services", []string{"CLUSTER-IP", "80/TCP"}},
		{"get endpointslices", []string{"IPv4", "8080"}},
		{"get events", []string{"SuccessfulCreate", "ScalingReplicaSet"}},
		{"get pods -o jsonpath={.items[*].metadata.name}", []string{pod.Name}},
		{"get pod " + pod.Name + " -o custom-columns=N:.metadata.name,IP:.status.podIP", []string{"N ", pod.Name, pod.Status.PodIP}},
		{"get pod " + pod.Name + " -o go-template={{.spec.nodeName}}", []string{pod.Spec.NodeName}},
		{"describe pod " + pod.Name, []string{"Controlled By:  ReplicaSet/hello-", "Scheduled", "Started", "Readiness:", "QoS Class:"}},
		{"describe deployment hello", []string{"3 desired", "RollingUpdate", "NewReplicaSet:", "ScalingReplicaSet"}},
		{"describe service hello", []string{"Endpoints:", ":8080"}},
	} {
		t.Run(row.args, func(t *testing.T) { contains(t, u.kubectl(t, row.args), row.want...) })
	}

	var fromJSON, fromYAML corev1.Pod
	if err := json.Unmarshal([]byte(u.kubectl(t, "get pod "+pod.Name+" -o json")), &fromJSON); err != nil {
		t.Error(err)
	}
	if err := yaml.UnmarshalStrict([]byte(u.kubectl(t, "get pod "+pod.Name+" -o yaml")), &fromYAML); err != nil {
		t.Error(err)
	}
	if fromJSON.UID != pod.UID || fromYAML.UID != pod.UID || fromYAML.Kind != "Pod" || fromYAML.APIVersion != "v1" {
		t.Errorf("uid %s as JSON, %s as YAML (%s %s), want %s", fromJSON.UID, fromYAML.UID, fromYAML.APIVersion, fromYAML.Kind, pod.UID)
	}
}

// TestChange goes through the verbs that change an object.
func TestChange(t *testing.T) {
	u := newUser(t)
	u.kubectl(t, "create configmap c --from-literal=a=1 --from-literal=b=2")
	u.kubectl(t, "label configmap c colour=red")
	u.kubectl(t, "annotate configmap c note=x")
	u.run(t, "", "patch", "configmap", "c", "--type=merge", "-p", `{"data":{"a":"merged"}}`)
	u.run(t, "", "patch", "configmap", "c", "--type=json", "-p", `[{"op":"add","path":"/data/c","value":"json"}]`)
	u.run(t, "", "patch", "configmap", "c", "-p", `{"data":{"b":null,"d":"strategic"}}`)

	var c corev1.ConfigMap
	if err := u.read(t, "configmap", "c", &c); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "merged", "c": "json", "d": "strategic"}
	if got, _ := json.Marshal(c.Data); string(got) != string(must(json.Marshal(want))) || c.Labels["colour"] != "red" || c.Annotations["note"] != "x" {
		t.Errorf("after all changes: %s labels %v annotations %v", got, c.Labels, c.Annotations)
	}

	editor := filepath.Join(t.TempDir(), "editor")
	if err := os.WriteFile(editor, []byte("#!/bin/sh\nsed -i s/strategic/edited/ \"$1\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBE_EDITOR", editor)
	contains(t, u.kubectl(t, "edit configmap c"), "edited")
	if err := u.read(t, "configmap", "c", &c); err != nil || c.Data["d"] != "edited" {
		t.Errorf("after kubectl edit: %v %v", c.Data, err)
	}

	stale := strings.Replace(u.kubectl(t, "get configmap c -o yaml"), "edited", "replaced", 1)
	u.kubectl(t, "label configmap c colour=blue --overwrite")
	if _, err := u.try(t, stale, "replace", "-f", "-"); err == nil || !strings.Contains(err.Error(), "the object has been modified") {
		t.Errorf("replace with an old resource version: %v, want a conflict", err)
	}
	u.run(t, strings.Replace(u.kubectl(t, "get configmap c -o yaml"), "edited", "replaced", 1), "replace", "-f", "-")

	contains(t, u.kubectl(t, "delete configmap -l colour=blue"), `"c" deleted`)
	if _, err := u.try(t, "", "get", "configmap", "c"); err == nil || !strings.Contains(err.Error(), `configmaps "c" not found`) {
		t.Errorf("after delete: %v, want not found", err)
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
