package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"hardway/shared/client"
)

// interrupt makes an extender that lets a test act in the middle of a decision: say is called with the number of times that the pod was
// asked about, from 1, and tells whether the nodes will do. It returns the flag of a configuration with it.
func interrupt(t *testing.T, say func(pod string, time int) bool) (flag string) {
	t.Helper()
	var mu sync.Mutex
	times := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var args extenderv1.ExtenderArgs
		if err := json.NewDecoder(r.Body).Decode(&args); err != nil {
			t.Error(err)
		}
		mu.Lock()
		times[args.Pod.Name]++
		n := times[args.Pod.Name]
		mu.Unlock()
		answer := extenderv1.ExtenderFilterResult{NodeNames: args.NodeNames}
		if !say(args.Pod.Name, n) {
			answer.NodeNames, answer.FailedNodes = &[]string{}, extenderv1.FailedNodesMap{}
			for _, name := range *args.NodeNames {
				answer.FailedNodes[name] = "not now"
			}
		}
		_ = json.NewEncoder(w).Encode(answer) // the scheduler may be gone
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := fmt.Sprintf(`apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: true}
extenders: [{urlPrefix: %q, filterVerb: filter, nodeCacheCapable: true, httpTimeout: 60s}]
`, server.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "--config=" + file
}

// TestBindConflict binds a pod elsewhere while the scheduler decides about it: what the scheduler had assumed is forgotten, and the room
// that it had taken goes to another pod.
func TestBindConflict(t *testing.T) {
	env, api := start(t)
	makeNode(t, api, "chosen", "4")
	flag := interrupt(t, func(pod string, time int) bool {
		if pod == "fought-over" && time == 1 {
			binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: pod}, Target: corev1.ObjectReference{Kind: "Node", Name: "other"}}
			if err := client.Pods.Post(t.Context(), api, "default", pod, "binding", binding); err != nil {
				t.Error(err)
			}
		}
		return true
	})
	startSchedulerAt(t, env, 0, flag)
	makePod(t, api, "fought-over", "3")
	if p := await(t, api, "fought-over", "bound", bound); p.Spec.NodeName != "other" {
		t.Errorf("bound to %s", p.Spec.NodeName)
	}
	makePod(t, api, "next", "4")
	await(t, api, "next", "bound where the first was assumed", bound)
}

// TestNodeDeletedWhileBinding deletes the node that a pod is about to go to. When one of that name comes back, the pod on it counts.
func TestNodeDeletedWhileBinding(t *testing.T) {
	env, api := start(t)
	makeNode(t, api, "only", "2")
	flag := interrupt(t, func(pod string, time int) bool {
		if pod == "before" && time == 1 {
			if err := client.Nodes.Delete(t.Context(), api, "", "only", metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		}
		return true
	})
	startSchedulerAt(t, env, 0, flag)
	makePod(t, api, "before", "1500m")
	await(t, api, "before", "bound", bound)
	makeNode(t, api, "only", "2")
	makePod(t, api, "large", "1")
	await(t, api, "large", "refused", func(p *corev1.Pod) bool { return strings.Contains(condition(p), "Insufficient cpu") })
	makePod(t, api, "small", "500m")
	await(t, api, "small", "bound", bound)
}

// TestTwoLeaders freezes a leader in the middle of a decision, lets another lead and give the room away, and wakes the first: what it had
// decided is not carried out, though the API server would take it.
func TestTwoLeaders(t *testing.T) {
	env, api := start(t)
	makeNode(t, api, "only", "1")
	frozen, thaw := make(chan struct{}), make(chan struct{})
	flag := interrupt(t, func(pod string, time int) bool {
		if pod != "late" {
			return true
		}
		if time == 1 {
			close(frozen)
			<-thaw
			return true // to the first leader
		}
		return false // to the second
	})
	var said lines
	first := launch(t, env, &said, 0, flag)
	makePod(t, api, "late", "1")
	receive(t, frozen, "the first leader does not decide")
	if err := first.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	startSchedulerAt(t, env, 0, flag)
	makePod(t, api, "timely", "1")
	await(t, api, "timely", "bound by the second leader", bound)
	close(thaw)
	if err := first.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	said.await(t, "too old")
	if p, err := client.Pods.Get(t.Context(), api, "default", "late"); err != nil || bound(p) {
		t.Errorf("the first leader bound a pod to %v, %v", p, err)
	}
}

func receive(t *testing.T, from chan struct{}, otherwise string) {
	t.Helper()
	select {
	case <-from:
	case <-time.After(patience):
		t.Fatal(otherwise)
	}
}

// lines is what a process writes.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (l *lines) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(data)
}

// await waits for a word.
func (l *lines) await(t *testing.T, word string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		l.mu.Lock()
		all := l.all.String()
		l.mu.Unlock()
		if strings.Contains(all, word) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("it does not say %q:\n%s", word, all)
		}
	}
}
