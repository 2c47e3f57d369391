//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
)

// versions asks every ready pod of hello for its version, through the API server's proxy.
func (u user) versions(t *testing.T) map[string]int {
	t.Helper()
	found := map[string]int{}
	for _, pod := range u.pods(t) {
		if pod.DeletionTimestamp == nil {
			answer := u.kubectl(t, "get --raw /api/v1/namespaces/"+u.namespace+"/pods/"+pod.Name+":8080/proxy/")
			found[strings.Fields(answer)[3]]++
		}
	}
	return found
}

func TestRollout(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	if got := u.versions(t); got["1"] != 3 || len(got) != 1 {
		t.Fatalf("versions %v, want three times 1", got)
	}

	u.kubectl(t, "set image deployment/hello hello=hardway/hello:2")
	contains(t, u.kubectl(t, "rollout status deployment/hello --timeout=60s"), "successfully rolled out")
	u.oldPodsGone(t, 3)
	if got := u.versions(t); got["2"] != 3 || len(got) != 1 {
		t.Errorf("versions %v after the roll-out, want three times 2", got)
	}
	contains(t, u.kubectl(t, "rollout history deployment/hello"), "REVISION", "1", "2")
	contains(t, u.kubectl(t, "get replicasets -o wide"), "hardway/hello:1", "hardway/hello:2")

	u.kubectl(t, "rollout undo deployment/hello")
	u.kubectl(t, "rollout status deployment/hello --timeout=60s")
	u.oldPodsGone(t, 3)
	if got := u.versions(t); got["1"] != 3 || len(got) != 1 {
		t.Errorf("versions %v after undo, want three times 1", got)
	}

	u.kubectl(t, "rollout restart deployment/hello")
	u.kubectl(t, "rollout status deployment/hello --timeout=60s")
}

// oldPodsGone waits until there are just n pods of hello.
func (u user) oldPodsGone(t *testing.T, n int) {
	t.Helper()
	wait(t, "old pods are gone", 60*time.Second, func() error {
		if pods := u.pods(t); len(pods) != n {
			return fmt.Errorf("%d pods", len(pods))
		}
		return nil
	})
}

func TestScale(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	for _, n := range []int{5, 1, 0, 2} {
		u.kubectl(t, fmt.Sprintf("scale deployment hello --replicas=%d", n))
		wait(t, fmt.Sprintf("%d replicas", n), 60*time.Second, func() error {
			var d appsv1.Deployment
			if err := u.read(t, "deployment", "hello", &d); err != nil {
				return err
			}
			if s := d.Status; int(s.ReadyReplicas) != n || int(s.Replicas) != n || s.ObservedGeneration != d.Generation {
				return fmt.Errorf("%d ready of %d", s.ReadyReplicas, s.Replicas)
			}
			return nil
		})
		u.oldPodsGone(t, n)
	}
}

// TestPauseAndResume: a paused deployment takes changes without rolling them out.
func TestPauseAndResume(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	u.kubectl(t, "rollout pause deployment/hello")
	u.kubectl(t, "set image deployment/hello hello=hardway/hello:2")
	wait(t, "the change is seen", 10*time.Second, func() error {
		var d appsv1.Deployment
		if err := u.read(t, "deployment", "hello", &d); err != nil {
			return err
		}
		if d.Status.ObservedGeneration != d.Generation {
			return fmt.Errorf("generation %d, observed %d", d.Generation, d.Status.ObservedGeneration)
		}
		return nil
	})
	if got := u.versions(t); got["1"] != 3 {
		t.Errorf("versions %v while paused, want three times 1", got)
	}
	u.kubectl(t, "rollout resume deployment/hello")
	u.kubectl(t, "rollout status deployment/hello --timeout=60s")
}

// TestDelete: what a deleted object owned goes with it, and --cascade=orphan leaves it.
func TestDelete(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	u.kubectl(t, "delete deployment hello --cascade=orphan")
	if rs := u.kubectl(t, "get replicasets -o name"); strings.Count(rs, "replicaset.apps/hello-") != 1 {
		t.Errorf("replica sets after an orphaning delete: %q", rs)
	}
	u.startHello(t) // adopts them again
	if pods := u.pods(t); len(pods) != 3 {
		t.Errorf("%d pods after adoption, want the same 3", len(pods))
	}
	u.kubectl(t, "delete deployment hello --cascade=foreground --timeout=60s")
	if left := u.kubectl(t, "get replicasets,pods -l app=hello -o name"); left != "" {
		t.Errorf("a foreground delete returned while these were there: %s", left)
	}
}

// TestGracefulDelete: SIGTERM comes first, and a pod that obeys it is gone long before its grace period.
func TestGracefulDelete(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	start := time.Now()
	u.kubectl(t, "delete pod -l app=hello --wait=true --timeout=25s")
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("deleting pods that end at SIGTERM took %s", took)
	}
	u.kubectl(t, "rollout status deployment/hello --timeout=60s") // the replica set makes new ones
}

func TestNamespaceDelete(t *testing.T) {
	u := newUser(t)
	inner := user{"inner-" + u.namespace}
	u.kubectl(t, "create namespace "+inner.namespace)
	inner.startHello(t)
	u.kubectl(t, "delete namespace "+inner.namespace+" --timeout=60s")
	if _, err := u.try(t, "", "get", "namespace", inner.namespace); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("the namespace after its deletion: %v", err)
	}
	if left := u.kubectl(t, "get all -n "+inner.namespace+" -o name"); left != "" {
		t.Errorf("left in a deleted namespace: %s", left)
	}
}
