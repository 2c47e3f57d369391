//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// inShell runs a command line in the pod shell, again and again until it succeeds and its output has the word.
func (u user) inShell(t *testing.T, line, word string) {
	t.Helper()
	wait(t, line, 20*time.Second, func() error {
		out, err := u.try(t, "", "exec", "shell", "--", "sh", "-c", line)
		if err == nil && !strings.Contains(out, word) {
			return fmt.Errorf("output %q lacks %q", out, word)
		}
		return err
	})
}

func TestServiceFromPod(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	u.startShell(t)
	for _, name := range []string{"hello", "hello." + u.namespace, "hello." + u.namespace + ".svc.cluster.local"} {
		u.inShell(t, "wget -q -O- http://"+name, "hello from version 1")
	}
	u.inShell(t, "nslookup kubernetes.default.svc.cluster.local", "10.32.0.1")
	u.inShell(t, "cat /etc/resolv.conf", "nameserver 10.32.0.10")
}

func TestHeadlessService(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	u.startShell(t)
	u.apply(t, `
apiVersion: v1
kind: Service
metadata: {name: each}
spec: {clusterIP: None, selector: {app: hello}, ports: [{name: http, port: 8080}]}
`)
	for _, pod := range u.pods(t) {
		u.inShell(t, "nslookup each."+u.namespace+".svc.cluster.local", pod.Status.PodIP)
	}
}

// TestServiceFromHost: the ClusterIP and the node port answer on the node itself, all endpoints get their share, and
// endpoints follow the pods.
func TestServiceFromHost(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	u.kubectl(t, "expose deployment hello --name=port --type=NodePort --port=80 --target-port=8080")
	var service corev1.Service
	if err := u.read(t, "service", "port", &service); err != nil {
		t.Fatal(err)
	}
	node := u.run(t, "", "get", "nodes", "-o", `jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}`)
	for _, url := range []string{
		"http://" + service.Spec.ClusterIP,
		fmt.Sprintf("http://%s:%d", node, service.Spec.Ports[0].NodePort),
	} {
		seen := map[string]bool{}
		wait(t, "three pods behind "+url, 20*time.Second, func() error {
			answer, err := tryGet(t, url)
			if err != nil {
				return err
			}
			seen[strings.Fields(answer)[6]] = true
			if len(seen) < 3 {
				return fmt.Errorf("pods seen: %v", seen)
			}
			return nil
		})
	}

	u.kubectl(t, "scale deployment hello --replicas=0")
	wait(t, "no endpoint is refused at once", 20*time.Second, func() error {
		if answer, err := tryGet(t, "http://"+service.Spec.ClusterIP); err == nil {
			return fmt.Errorf("still answered: %s", answer)
		} else if !strings.Contains(err.Error(), "connection refused") {
			return err
		}
		return nil
	})
}

// TestPodToPod: every pod has an address of its own, which other pods reach and which it knows itself by.
func TestPodToPod(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	u.startShell(t)
	for _, pod := range u.pods(t) {
		if !strings.HasPrefix(pod.Status.PodIP, "10.200.") {
			t.Errorf("pod %s has address %q", pod.Name, pod.Status.PodIP)
		}
		u.inShell(t, "wget -q -O- http://"+pod.Status.PodIP+":8080/direct", "pod "+pod.Name)
	}
}
