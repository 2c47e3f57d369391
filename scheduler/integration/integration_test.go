// Package integration runs the real scheduler against the real apiserver.
package integration

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"hardway/shared/client"
	"hardway/shared/testenv"
)

const patience = 30 * time.Second

// built guards binary, which is built once: asking whether it is up to date takes longer than some tests.
var (
	built  sync.Once
	binary string
)

// startScheduler runs the binary; kill ends it as a power cut would.
func startScheduler(t *testing.T, env *testenv.Env) (kill func()) {
	t.Helper()
	return startSchedulerAt(t, env, 0)
}

// startSchedulerAt does so with a port, by which it knows its own Lease again, and with further flags.
func startSchedulerAt(t *testing.T, env *testenv.Env, port int, flags ...string) (kill func()) {
	t.Helper()
	cmd := launch(t, env, os.Stderr, port, flags...)
	return func() { end(cmd) }
}

// launch is the same with a place for what it writes. Its Lease is short, so that nobody waits long for the successor of one that was killed.
func launch(t *testing.T, env *testenv.Env, to io.Writer, port int, flags ...string) *exec.Cmd {
	t.Helper()
	cfg := env.ConfigFor("system:kube-scheduler")
	file := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: cfg.Host, CertificateAuthorityData: cfg.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {ClientCertificateData: cfg.CertData, ClientKeyData: cfg.KeyData}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, file)
	if err != nil {
		t.Fatal(err)
	}
	flags = append([]string{
		"--kubeconfig=" + file, "--bind-address=127.0.0.1", fmt.Sprint("--secure-port=", port),
		"--leader-elect-lease-duration=3s", "--leader-elect-renew-deadline=2s", "--leader-elect-retry-period=300ms",
	}, flags...)
	built.Do(func() { binary = testenv.Build(t, "scheduler") })
	cmd := exec.Command(binary, flags...)
	cmd.Stderr = to
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(cmd) })
	return cmd
}

// end kills a process; the second time it does nothing.
func end(cmd *exec.Cmd) {
	cmd.Process.Kill() //nolint:errcheck // it may have ended
	cmd.Wait()         //nolint:errcheck // killed
}

// start runs the apiserver, with the service account that pods need and that a controller would make.
func start(t *testing.T) (*testenv.Env, *client.API) {
	t.Helper()
	env := testenv.Start(t)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}
	if _, err := client.ServiceAccounts.Create(t.Context(), env.API(), account); err != nil {
		t.Fatal(err)
	}
	return env, env.API()
}

func makeNode(t *testing.T, api *client.API, name, cpu string) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	n.Status.Capacity = n.Status.Allocatable
	made, err := client.Nodes.Create(t.Context(), api, n)
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Spec.Taints) > 0 { // of a node that is new, which a controller takes away
		made.Spec.Taints = nil
		if made, err = client.Nodes.Update(t.Context(), api, made); err != nil {
			t.Fatal(err)
		}
	}
	made.Status = n.Status
	if _, err := client.Nodes.Update(t.Context(), api, made, "status"); err != nil {
		t.Fatal(err)
	}
}

func makePod(t *testing.T, api *client.API, name, cpu string) {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)},
	}}}
	if _, err := client.Pods.Create(t.Context(), api, p); err != nil {
		t.Fatal(err)
	}
}

// await reads a pod until ok says yes.
func await(t *testing.T, api *client.API, name, what string, ok func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w, err := client.Pods.Watch(ctx, api, "default", metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if p, is := e.Object.(*corev1.Pod); is && ok(p) {
			return p
		}
	}
	t.Fatalf("pod %s: not %s within %s", name, what, patience)
	return nil
}

func bound(p *corev1.Pod) bool { return p.Spec.NodeName != "" }

func TestPlacesAndExplains(t *testing.T) {
	env, api := start(t)
	makeNode(t, api, "small", "1")
	makePod(t, api, "before", "500m")
	startScheduler(t, env)
	await(t, api, "before", "bound", bound)
	makePod(t, api, "big", "4")
	p := await(t, api, "big", "explained", func(p *corev1.Pod) bool { return condition(p) != "" })
	if got, want := condition(p), "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."; got != want {
		t.Errorf("condition %q, want %q", got, want)
	}
	makeNode(t, api, "large", "8")
	if p := await(t, api, "big", "bound once there is room", bound); p.Spec.NodeName != "large" {
		t.Errorf("bound to %s", p.Spec.NodeName)
	}
}

func condition(p *corev1.Pod) string {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Message
		}
	}
	return ""
}

// TestKilledInTheMiddle kills the scheduler again and again while it places more pods than fit, and checks that each
// fitting pod got a node and none got too many.
func TestKilledInTheMiddle(t *testing.T) {
	env, api := start(t)
	const nodes, perNode = 5, 10
	for i := range nodes {
		makeNode(t, api, fmt.Sprint("n", i), fmt.Sprint(perNode))
	}
	for i := range nodes * perNode {
		makePod(t, api, fmt.Sprint("p", i), "1")
	}
	for range 5 {
		kill := startScheduler(t, env)
		await(t, api, "p0", "seen", func(*corev1.Pod) bool { return true })
		kill()
	}
	startScheduler(t, env)
	used := map[string]int{}
	for i := range nodes * perNode {
		used[await(t, api, fmt.Sprint("p", i), "bound", bound).Spec.NodeName]++
	}
	for node, n := range used {
		if n != perNode || !strings.HasPrefix(node, "n") {
			t.Errorf("%d pods on %s, room for %d", n, node, perNode)
		}
	}
}

// TestMakesRoom lets a critical pod evict another: the victim is told why, the pod is promised the node, and gets it when
// the victim is gone.
func TestMakesRoom(t *testing.T) {
	env, api := start(t)
	makeNode(t, api, "only", "2")
	startScheduler(t, env)
	makePod(t, api, "victim", "2")
	await(t, api, "victim", "bound", bound)
	critical := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "critical"}}
	critical.Spec.PriorityClassName = "system-node-critical"
	critical.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")},
	}}}
	if _, err := client.Pods.Create(t.Context(), api, critical); err != nil {
		t.Fatal(err)
	}
	v := await(t, api, "victim", "on its way out", func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	told := false
	for _, c := range v.Status.Conditions {
		told = told || c.Type == corev1.DisruptionTarget && c.Reason == corev1.PodReasonPreemptionByScheduler
	}
	if !told {
		t.Errorf("the victim was not told: %v", v.Status.Conditions)
	}
	await(t, api, "critical", "promised the node", func(p *corev1.Pod) bool { return p.Status.NominatedNodeName == "only" })
	zero := int64(0)
	if err := client.Pods.Delete(t.Context(), api, "default", "victim", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	await(t, api, "critical", "bound", bound)
}

// TestShards runs two active schedulers, each with nodes and pods of its own, as docs/scaling.md describes.
func TestShards(t *testing.T) {
	env, api := start(t)
	for _, shard := range []string{"a", "b"} {
		for i := range 2 {
			name := fmt.Sprint(shard, i)
			makeNode(t, api, name, "4")
			n, err := client.Nodes.Get(t.Context(), api, "", name)
			if err != nil {
				t.Fatal(err)
			}
			n.Labels = map[string]string{"scheduling.example.com/shard": shard}
			if _, err := client.Nodes.Update(t.Context(), api, n); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(t.TempDir(), "config.yaml")
		text := strings.ReplaceAll(`apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: true, resourceName: scheduler-X}
profiles:
- schedulerName: shard-X
  pluginConfig:
  - name: NodeAffinity
    args:
      kind: NodeAffinityArgs
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{matchExpressions: [{key: scheduling.example.com/shard, operator: In, values: [X]}]}]
`, "X", shard)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		startSchedulerAt(t, env, 0, "--config="+file)
	}
	for i := range 16 {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", i)}}
		p.Spec.SchedulerName = []string{"shard-a", "shard-b"}[i%2]
		p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")},
		}}}
		if _, err := client.Pods.Create(t.Context(), api, p); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 16 {
		p := await(t, api, fmt.Sprint("p", i), "bound", bound)
		if want := p.Spec.SchedulerName[len("shard-"):]; !strings.HasPrefix(p.Spec.NodeName, want) {
			t.Errorf("pod of shard %s is on %s", want, p.Spec.NodeName)
		}
	}
}

// TestAPIServerAway takes the API server away and brings it back with the scheduler running: what was placed stays counted, and what comes
// later is placed.
func TestAPIServerAway(t *testing.T) {
	env, api := start(t)
	makeNode(t, api, "only", "2")
	startScheduler(t, env)
	makePod(t, api, "before", "1500m")
	await(t, api, "before", "bound", bound)
	port := env.Address
	env.Kill()
	env.Relaunch(port)
	api = env.API()
	makePod(t, api, "large", "1")
	await(t, api, "large", "refused", func(p *corev1.Pod) bool { return condition(p) != "" })
	makePod(t, api, "small", "500m")
	await(t, api, "small", "bound", bound)
}
