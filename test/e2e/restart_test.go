//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// facts are what must not change about a pod while daemons are killed.
type facts struct {
	pids     string // of its processes, seen from the host
	uid, ip  string
	restarts int32
	ready    metav1.Time // since when
}

func (u user) facts(t *testing.T) map[string]facts {
	t.Helper()
	found := map[string]facts{}
	for _, pod := range u.pods(t) {
		f := facts{uid: string(pod.UID), ip: pod.Status.PodIP, pids: hostPIDs(t, pod.Name)}
		for _, c := range pod.Status.ContainerStatuses {
			f.restarts += c.RestartCount
		}
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				f.ready = c.LastTransitionTime
			}
		}
		found[pod.Name] = f
	}
	return found
}

// hostPIDs finds the processes whose environment says POD_NAME=<pod>.
func hostPIDs(t *testing.T, pod string) string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, file := range files {
		environ, _ := os.ReadFile(file) // a process may end while it is looked at
		if bytes.Contains(append([]byte{0}, environ...), []byte("\x00POD_NAME="+pod+"\x00")) {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return strings.Join(pids, " ")
}

// sameAs fails the test when anything about the pods is other than before.
func sameAs(t *testing.T, before, after map[string]facts) {
	t.Helper()
	if !maps.Equal(before, after) {
		t.Errorf("pods changed:\nbefore %+v\nafter  %+v", before, after)
	}
}

// TestKillNodeAgent: containers run on without the agent, and the next one takes them over as they are.
func TestKillNodeAgent(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	before := u.facts(t)
	for pod, f := range before {
		if f.pids == "" || f.restarts != 0 || f.ready.IsZero() {
			t.Fatalf("pod %s before: %+v", pod, f)
		}
	}
	for range 3 {
		kill(t, "nodeagent")
		for name := range before {
			wait(t, "the new agent serves exec in "+name, 20*time.Second, func() error {
				out, err := u.try(t, "", "exec", name, "--", "/hello", "-h")
				if err != nil && strings.Contains(err.Error(), "address already in use") {
					return nil // hello ran in the pod's network, where its port is taken
				}
				return fmt.Errorf("%q %w", out, err)
			})
		}
		sameAs(t, before, u.facts(t))
	}
	// and it still manages them
	name := u.pods(t)[0].Name
	u.kubectl(t, "delete pod "+name+" --timeout=30s")
	u.kubectl(t, "rollout status deployment/hello --timeout=60s")
	if pids := hostPIDs(t, name); pids != "" {
		t.Errorf("processes of the deleted pod run on: %s", pids)
	}
}

// TestKillAPIServer: what it acknowledged is there when it is back, and the others carry on with it.
func TestKillAPIServer(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	before := u.facts(t)
	for i := range 3 {
		name := fmt.Sprintf("written-%d", i)
		u.kubectl(t, "create configmap "+name+" --from-literal=k=v")
		kill(t, "apiserver")
		wait(t, "the API answers again", 20*time.Second, func() error {
			_, err := u.try(t, "", "get", "--raw", "/readyz")
			return err
		})
		u.kubectl(t, "get configmap "+name)
	}
	sameAs(t, before, u.facts(t))
	u.kubectl(t, "scale deployment hello --replicas=4")
	u.kubectl(t, "rollout status deployment/hello --timeout=60s")
}

// TestKillTheOthers: every other daemon comes back and does its work.
func TestKillTheOthers(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	u.startShell(t)
	for _, name := range []string{"controllers", "scheduler", "netproxy", "dns"} {
		kill(t, name)
	}
	u.kubectl(t, "scale deployment hello --replicas=5")
	u.kubectl(t, "rollout status deployment/hello --timeout=60s")
	u.inShell(t, "wget -q -O- http://hello", "hello from version 1")
}

// TestMakeUpAgain: nothing that runs is touched; what is down is started.
func TestMakeUpAgain(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	names := []string{"apiserver", "controllers", "scheduler", "nodeagent", "netproxy", "dns"}
	pids := func() map[string]int {
		found := map[string]int{}
		for _, name := range names {
			found[name] = daemonPID(name)
		}
		return found
	}
	before, daemons := u.facts(t), pids()
	if err := script("up.sh", io.Discard); err != nil {
		t.Fatal(err)
	}
	if now := pids(); !maps.Equal(now, daemons) {
		t.Errorf("daemons were restarted: %v, before %v", now, daemons)
	}
	sameAs(t, before, u.facts(t))
}

// TestMakeDownAndUp: the cluster goes on with what it was told before.
func TestMakeDownAndUp(t *testing.T) {
	u := newUser(t)
	u.startHello(t)
	u.kubectl(t, "create configmap kept --from-literal=k=v")
	var said bytes.Buffer
	if err := script("down.sh", &said); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	if found := leftovers(); found != "" {
		t.Errorf("make down left behind:\n%s", found)
	}
	if err := script("up.sh", io.Discard); err != nil {
		t.Fatal(err)
	}
	u.kubectl(t, "get configmap kept")
	u.kubectl(t, "rollout status deployment/hello --timeout=60s")
	u.startShell(t)
	u.inShell(t, "wget -q -O- http://hello", "hello from version 1")
}
