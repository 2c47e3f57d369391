//go:build interop

package interop

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// harmless are errors in the logs of upstream's daemons that are let pass. The first two are about things that this cluster of
// fake nodes does not have. The last two are in these logs beside upstream's own API server as well: see CONTROL.
var harmless = []*regexp.Regexp{
	regexp.MustCompile(`"Failed to (start|initialize)[^"]*cloud`),
	regexp.MustCompile(`CA file.*cluster-signing`),
	regexp.MustCompile(`The manifest file is empty, ignoring`),
	regexp.MustCompile(`read version: \d+ is not as new as written version: \d+`), // it waits for its own write to come back, then goes on
}

// Upstream's scheduler and controller manager and a set of client-go's informers run against our API server, while a
// Deployment is scaled, without an error in their logs. MINUTES says how long; one by default. CONTROL=1 lets them run against upstream's
// API server instead: what is in their logs then is no fault of ours.
func TestUpstreamDaemons(t *testing.T) {
	minutes := 1
	if text := os.Getenv("MINUTES"); text != "" {
		var err error
		if minutes, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	l := newLab(t)
	l.apiserver(os.Getenv("CONTROL") != "")
	api, err := kubernetes.NewForConfig(l.config("admin", "system:masters"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		l.fakeNode(api, fmt.Sprintf("node-%d", i))
	}
	scheduler := filepath.Join(os.Getenv("PEERS"), "kube-scheduler")
	manager := filepath.Join(os.Getenv("PEERS"), "kube-controller-manager")
	l.start(scheduler, "--kubeconfig="+l.kubeconfig("system:kube-scheduler"), "--authentication-kubeconfig="+l.file("system-kube-scheduler.kubeconfig"),
		"--authorization-kubeconfig="+l.file("system-kube-scheduler.kubeconfig"), "--bind-address=127.0.0.1", "--secure-port=16259", "--cert-dir="+l.dir)
	l.start(manager, "--kubeconfig="+l.kubeconfig("system:kube-controller-manager"),
		"--authentication-kubeconfig="+l.file("system-kube-controller-manager.kubeconfig"), "--authorization-kubeconfig="+l.file("system-kube-controller-manager.kubeconfig"),
		"--bind-address=127.0.0.1", "--secure-port=16257", "--cert-dir="+l.dir, "--root-ca-file="+l.file("ca.pem"),
		"--service-account-private-key-file="+l.file("sa-key.pem"), "--use-service-account-credentials", "--node-monitor-grace-period=1h")
	var watchErrors atomic.Int64
	seen := l.informers(api, &watchErrors)

	l.deploy(api)
	end := time.After(time.Duration(minutes) * time.Minute)
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for n, running := 0, true; running; n++ {
		replicas := int32(2 + 4*(n%2))
		l.scale(api, replicas)
		l.eventually(fmt.Sprintf("%d pods are bound", replicas), time.Minute, func() bool { return l.bound(api) == int(replicas) })
		select {
		case <-end:
			running = false
		case <-tick.C:
		}
	}
	if seen.Load() == 0 || watchErrors.Load() > 0 {
		t.Errorf("informers saw %d changes and %d errors", seen.Load(), watchErrors.Load())
	}
	for _, program := range []string{scheduler, manager} {
		for _, line := range errorLines(t, l.log(program)) {
			t.Errorf("%s: %s", filepath.Base(program), line)
		}
	}
}

// fakeNode is a node that is ready and takes pods, and runs nothing.
func (l *lab) fakeNode(api kubernetes.Interface, name string) {
	l.t.Helper()
	room := corev1.ResourceList{corev1.ResourceCPU: quantity("8"), corev1.ResourceMemory: quantity("16Gi"), corev1.ResourcePods: quantity("110")}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Capacity: room, Allocatable: room,
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}}}}
	made, err := api.CoreV1().Nodes().Create(l.t.Context(), node, metav1.CreateOptions{})
	if err != nil {
		l.t.Fatal(err)
	}
	made.Status, made.Spec.Taints = node.Status, nil
	if _, err := api.CoreV1().Nodes().UpdateStatus(l.t.Context(), made, metav1.UpdateOptions{}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) deploy(api kubernetes.Interface) {
	l.t.Helper()
	labels := map[string]string{"app": "web"}
	replicas := int32(1)
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}}}
	// The controller manager makes the service account that pods need.
	l.eventually("the default service account is there", 2*time.Minute, func() bool {
		_, err := api.CoreV1().ServiceAccounts("default").Get(l.t.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
	if _, err := api.AppsV1().Deployments("default").Create(l.t.Context(), d, metav1.CreateOptions{}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) scale(api kubernetes.Interface, replicas int32) {
	l.t.Helper()
	s, err := api.AppsV1().Deployments("default").GetScale(l.t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		l.t.Fatal(err)
	}
	s.Spec.Replicas = replicas
	if _, err := api.AppsV1().Deployments("default").UpdateScale(l.t.Context(), "web", s, metav1.UpdateOptions{}); err != nil {
		l.t.Fatal(err)
	}
}

// bound counts the pods that have a node. Those that are being deleted are removed, as their node would do.
func (l *lab) bound(api kubernetes.Interface) int {
	l.t.Helper()
	pods, err := api.CoreV1().Pods("default").List(l.t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		l.t.Fatal(err)
	}
	n, now := 0, int64(0)
	for i := range pods.Items {
		switch p := &pods.Items[i]; {
		case p.DeletionTimestamp != nil:
			_ = api.CoreV1().Pods("default").Delete(l.t.Context(), p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}) // it may be gone
		case p.Spec.NodeName != "":
			n++
		}
	}
	return n
}

// informers follow a dozen kinds and count what they see, and errors.
func (l *lab) informers(api kubernetes.Interface, errors *atomic.Int64) *atomic.Int64 {
	l.t.Helper()
	seen := new(atomic.Int64)
	f := informers.NewSharedInformerFactory(api, 30*time.Second)
	count := cache.ResourceEventHandlerFuncs{AddFunc: func(any) { seen.Add(1) }, UpdateFunc: func(any, any) { seen.Add(1) }, DeleteFunc: func(any) { seen.Add(1) }}
	for _, i := range []cache.SharedIndexInformer{
		f.Core().V1().Pods().Informer(), f.Core().V1().Nodes().Informer(), f.Core().V1().Services().Informer(), f.Core().V1().Secrets().Informer(),
		f.Core().V1().ConfigMaps().Informer(), f.Core().V1().Namespaces().Informer(), f.Apps().V1().Deployments().Informer(), f.Apps().V1().ReplicaSets().Informer(),
		f.Batch().V1().Jobs().Informer(), f.Discovery().V1().EndpointSlices().Informer(), f.Storage().V1().StorageClasses().Informer(), f.Rbac().V1().ClusterRoles().Informer(),
	} {
		if err := i.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
			errors.Add(1)
			l.t.Logf("informer: %v", err)
		}); err != nil {
			l.t.Fatal(err)
		}
		if _, err := i.AddEventHandler(count); err != nil {
			l.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(l.t.Context())
	f.Start(ctx.Done())
	l.t.Cleanup(func() { cancel(); f.Shutdown() })
	f.WaitForCacheSync(ctx.Done())
	return seen
}

// errorLines are the lines of a klog file that tell of errors, each sort once. The harmless ones are counted in the test's log.
func errorLines(t *testing.T, path string) []string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var out []string
	known := map[string]bool{}
	passed := map[*regexp.Regexp]int{}
	defer func() {
		for h, n := range passed {
			t.Logf("%s: %d times %s", filepath.Base(path), n, h)
		}
	}()
lines:
	for in := bufio.NewScanner(file); in.Scan(); {
		line := in.Text()
		if len(line) < 2 || line[0] != 'E' && line[0] != 'F' || line[1] < '0' || line[1] > '9' {
			continue
		}
		for _, h := range harmless {
			if h.MatchString(line) {
				passed[h]++
				continue lines
			}
		}
		where, _, _ := strings.Cut(line[min(len(line), 22):], "]")
		if !known[where] {
			known[where] = true
			out = append(out, line)
		}
	}
	return out
}
