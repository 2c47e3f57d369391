//go:build interop

package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"
)

// steady are workloads of all sorts that have come to rest before the controllers are exchanged.
const steady = `
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 6, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: "i:1", ports: [{containerPort: 80}], env: [{name: A, value: b}]}]}}}}
- {apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {replicas: 3, serviceName: db, selector: {matchLabels: {app: db}}, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: i, livenessProbe: {tcpSocket: {port: 1}}}]}}, volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], storageClassName: none, resources: {requests: {storage: 1Gi}}}}]}}
- {apiVersion: apps/v1, kind: DaemonSet, metadata: {name: log}, spec: {selector: {matchLabels: {app: log}}, template: {metadata: {labels: {app: log}}, spec: {containers: [{name: c, image: i, resources: {requests: {cpu: 10m}}}]}}}}
- {apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: set}, spec: {replicas: 4, selector: {matchLabels: {app: set}}, template: {metadata: {labels: {app: set}}, spec: {containers: [{name: c, image: i}]}}}}
- {apiVersion: v1, kind: ReplicationController, metadata: {name: old}, spec: {replicas: 2, selector: {app: old}, template: {metadata: {labels: {app: old}}, spec: {containers: [{name: c, image: i}]}}}}
- {apiVersion: batch/v1, kind: Job, metadata: {name: long}, spec: {parallelism: 3, completions: 6, completionMode: Indexed, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}
- {apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80}]}}
- {apiVersion: v1, kind: Service, metadata: {name: db}, spec: {clusterIP: None, selector: {app: db}, ports: [{port: 80}]}}
- {apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: web}, spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}}
- {apiVersion: v1, kind: ResourceQuota, metadata: {name: all}, spec: {hard: {pods: "100", "count/configmaps": "50"}}}
`

// kept are the kinds of which nothing may be made, replaced or removed by an exchange, and whose specification may not change.
var kept = []schema.GroupVersionResource{
	{Version: "v1", Resource: "pods"}, {Version: "v1", Resource: "services"}, {Version: "v1", Resource: "endpoints"}, {Version: "v1", Resource: "persistentvolumeclaims"},
	{Version: "v1", Resource: "serviceaccounts"}, {Version: "v1", Resource: "configmaps"}, {Version: "v1", Resource: "replicationcontrollers"},
	{Group: "apps", Version: "v1", Resource: "deployments"}, {Group: "apps", Version: "v1", Resource: "replicasets"}, {Group: "apps", Version: "v1", Resource: "statefulsets"},
	{Group: "apps", Version: "v1", Resource: "daemonsets"}, {Group: "apps", Version: "v1", Resource: "controllerrevisions"}, {Group: "batch", Version: "v1", Resource: "jobs"},
	{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}, {Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"},
}

// Upstream's controller manager and ours take a running cluster over from each other, under load and in the middle of a rollout, in both
// directions: nothing is recreated and no rollout starts again.
func TestControllersExchanged(t *testing.T) {
	l := newLab(t)
	l.apiserver(false)
	api, err := kubernetes.NewForConfig(l.config("admin", "system:masters"))
	if err != nil {
		t.Fatal(err)
	}
	r := &rolls{lab: l, api: api}
	if r.dynamic, err = dynamic.NewForConfig(l.config("admin", "system:masters")); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		l.fakeNode(api, fmt.Sprintf("node-%d", i))
	}
	r.agents(t.Context())
	stop := r.controllers("upstream")
	for _, ns := range []string{"steady", "rolling", "load"} {
		r.space(ns)
	}
	r.settle()
	r.load(t.Context())

	for _, to := range []string{"hardway", "upstream"} {
		r.roll(to, func() { // in the middle of a rollout
			next := r.controllers(to) // stands by
			before := r.look()
			stop()
			stop = next
			r.works(to)
			r.compare(to, before)
		})
	}
}

// rolls is a cluster whose controllers are exchanged.
type rolls struct {
	*lab
	api     *kubernetes.Clientset
	dynamic *dynamic.DynamicClient
	turn    int
}

// controllers starts those of one side. The Lease runs out soon, so that the next ones need not wait for long.
func (r *rolls) controllers(side string) (stop func()) {
	r.turn++
	program := filepath.Join(os.Getenv("BIN"), "hardway-controllers")
	config := r.kubeconfig("system:kube-controller-manager")
	args := []string{"--kubeconfig=" + config, "--root-ca-file=" + r.file("ca.pem"), "--service-account-private-key-file=" + r.file("sa-key.pem"), "--use-service-account-credentials",
		"--bind-address=127.0.0.1", fmt.Sprint("--secure-port=", 16300+r.turn), "--allocate-node-cidrs", "--cluster-cidr=10.200.0.0/16", "--service-cluster-ip-range=10.32.0.0/24",
		"--leader-elect-lease-duration=4s", "--leader-elect-renew-deadline=3s", "--leader-elect-retry-period=500ms"}
	if side == "upstream" {
		program = filepath.Join(os.Getenv("PEERS"), "kube-controller-manager")
		args = append(args, "--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config, "--cert-dir="+r.dir)
	}
	return r.start(program, args...)
}

func (r *rolls) space(name string) {
	r.t.Helper()
	if _, err := r.api.CoreV1().Namespaces().Create(r.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
	r.eventually("the account of namespace "+name, time.Minute, func() bool {
		_, err := r.api.CoreV1().ServiceAccounts(name).Get(r.t.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
}

// agents play scheduler and node agents: pods get a node, an address, and go when they are deleted; nodes renew their Leases. Pods of
// namespace rolling take half a second to be ready.
func (r *rolls) agents(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	r.t.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() {
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for ; ctx.Err() == nil; <-tick.C {
			for i := range 3 {
				r.renew(ctx, fmt.Sprintf("node-%d", i))
			}
		}
	})
	wg.Go(func() {
		for n := 0; ctx.Err() == nil; {
			w, err := r.api.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{})
			if err != nil {
				continue
			}
			for e := range w.ResultChan() {
				if p, ok := e.Object.(*corev1.Pod); ok && e.Type != watch.Deleted {
					n++
					r.serve(ctx, p, n)
				}
			}
		}
	})
}

func (r *rolls) renew(ctx context.Context, node string) {
	leases := r.api.CoordinationV1().Leases("kube-node-lease")
	now := metav1.NowMicro()
	lease, err := leases.Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		_, _ = leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: node}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &node, RenewTime: &now}}, metav1.CreateOptions{}) // the next round tells
		return
	}
	lease.Spec.RenewTime = &now
	_, _ = leases.Update(ctx, lease, metav1.UpdateOptions{}) // likewise
}

func (r *rolls) serve(ctx context.Context, p *corev1.Pod, n int) {
	pods, zero := r.api.CoreV1().Pods(p.Namespace), int64(0)
	switch {
	case p.DeletionTimestamp != nil:
		_ = pods.Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero}) // it may be gone
	case p.Spec.NodeName == "":
		node := fmt.Sprintf("node-%d", n%3)
		if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil { // a DaemonSet's
			node = a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields[0].Values[0]
		}
		_ = pods.Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: p.Name, UID: p.UID}, Target: corev1.ObjectReference{Kind: "Node", Name: node}}, metav1.CreateOptions{}) // it may be gone
	case p.Status.PodIP == "":
		ip := fmt.Sprintf("10.200.%d.%d", n/250%250, n%250+1)
		status, _ := json.Marshal(map[string]any{"status": map[string]any{"phase": "Running", "podIP": ip, "podIPs": []map[string]string{{"ip": ip}},
			"conditions": []map[string]any{{"type": "Ready", "status": "True", "lastTransitionTime": metav1.Now()}}}})
		report := func() {
			_, _ = pods.Patch(ctx, p.Name, types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status") // it may be gone
		}
		if p.Namespace == "rolling" {
			time.AfterFunc(500*time.Millisecond, report)
		} else {
			report()
		}
	}
}

// settle makes the steady workloads and waits until nothing is left to do for them.
func (r *rolls) settle() {
	r.t.Helper()
	var all []map[string]any
	if err := yaml.Unmarshal([]byte(steady), &all); err != nil {
		r.t.Fatal(err)
	}
	for _, fields := range all {
		obj := &unstructured.Unstructured{Object: fields}
		gv, _ := schema.ParseGroupVersion(obj.GetAPIVersion())
		resource := strings.ToLower(obj.GetKind()) + "s"
		if _, err := r.dynamic.Resource(gv.WithResource(resource)).Namespace("steady").Create(r.t.Context(), obj, metav1.CreateOptions{}); err != nil {
			r.t.Fatalf("create %s: %v", resource, err)
		}
	}
	r.eventually("the steady pods are ready and served", 2*time.Minute, func() bool {
		pods, err := r.api.CoreV1().Pods("steady").List(r.t.Context(), metav1.ListOptions{})
		web, err2 := r.api.CoreV1().Endpoints("steady").Get(r.t.Context(), "web", metav1.GetOptions{}) //nolint:staticcheck // both are kept up
		if err != nil || err2 != nil || len(pods.Items) != 6+3+3+4+2+3 || len(web.Subsets) != 1 || len(web.Subsets[0].Addresses) != 6 {
			return false
		}
		return !slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool { return p.Status.PodIP == "" })
	})
}

// load scales a Deployment and makes and ends Jobs, all the time.
func (r *rolls) load(ctx context.Context) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	r.t.Cleanup(func() { cancel(); wg.Wait() })
	if _, err := r.api.AppsV1().Deployments("load").Create(ctx, deploymentOf("load", 1), metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
	wg.Go(func() {
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, 2+20*(n%2))
			_, _ = r.api.AppsV1().Deployments("load").Patch(ctx, "load", types.MergePatchType, patch, metav1.PatchOptions{}) // load need not succeed
			job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{GenerateName: "j-"}, Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "i"}}}}}}
			_, _ = r.api.BatchV1().Jobs("load").Create(ctx, job, metav1.CreateOptions{})
			<-tick.C
		}
	})
}

func deploymentOf(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i:1"}}}}}}
}

// roll begins a rollout of 20 pods, calls do in the middle of it, and wants every pod of the new template to have been made once.
func (r *rolls) roll(to string, do func()) {
	r.t.Helper()
	name := "to-" + to
	deployments := r.api.AppsV1().Deployments("rolling")
	if _, err := deployments.Create(r.t.Context(), deploymentOf(name, 20), metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
	updated := func() (n, available int32) {
		d, err := deployments.Get(r.t.Context(), name, metav1.GetOptions{})
		if err != nil || d.Status.ObservedGeneration != d.Generation {
			return 0, 0
		}
		return d.Status.UpdatedReplicas, d.Status.AvailableReplicas
	}
	done := func() bool {
		n, available := updated()
		d, err := deployments.Get(r.t.Context(), name, metav1.GetOptions{})
		return err == nil && n == 20 && available == 20 && d.Status.Replicas == 20
	}
	r.eventually("the first rollout of "+name, time.Minute, done)
	w, err := r.api.CoreV1().Pods("rolling").Watch(r.t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		r.t.Fatal(err)
	}
	var mu sync.Mutex
	made := map[types.UID]bool{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for e := range w.ResultChan() {
			if p, ok := e.Object.(*corev1.Pod); ok && p.Spec.Containers[0].Image == "i:2" {
				mu.Lock()
				made[p.UID] = true
				mu.Unlock()
			}
		}
	})
	patch := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i:2"}]}}}}`)
	if _, err := deployments.Patch(r.t.Context(), name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		r.t.Fatal(err)
	}
	r.eventually("the rollout has begun", time.Minute, func() bool { n, _ := updated(); return n >= 5 })
	if n, _ := updated(); n == 20 {
		r.t.Log("the rollout was over before the exchange")
	}
	do()
	r.eventually("the rollout ends", 2*time.Minute, done)
	w.Stop()
	wg.Wait()
	sets, err := r.api.AppsV1().ReplicaSets("rolling").List(r.t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(made) != 20 || len(sets.Items) != 2 {
		r.t.Errorf("to %s: %d pods were made for 20 replicas, of %d ReplicaSets", to, len(made), len(sets.Items))
	}
}

// works waits until the new controllers have done something, and then for as long as it takes them to look at all there is.
func (r *rolls) works(side string) {
	r.t.Helper()
	if _, err := r.api.AppsV1().Deployments("load").Create(r.t.Context(), deploymentOf("seen-by-"+side, 2), metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
	begin := time.Now()
	r.eventually(side+" works", 2*time.Minute, func() bool {
		d, err := r.api.AppsV1().Deployments("load").Get(r.t.Context(), "seen-by-"+side, metav1.GetOptions{})
		return err == nil && d.Status.AvailableReplicas == 2
	})
	r.t.Logf("%s works %v after the other one was stopped", side, time.Since(begin).Round(time.Millisecond))
	time.Sleep(10 * time.Second)
}

// look is what is in namespace steady: uid and specification of every object, by kind and name.
func (r *rolls) look() map[string]string {
	r.t.Helper()
	out := map[string]string{}
	for _, kind := range kept {
		list, err := r.dynamic.Resource(kind).Namespace("steady").List(r.t.Context(), metav1.ListOptions{})
		if err != nil {
			r.t.Fatal(err)
		}
		for i := range list.Items {
			obj := &list.Items[i]
			what := map[string]any{"uid": obj.GetUID(), "generation": obj.GetGeneration(), "owners": obj.GetOwnerReferences(), "labels": obj.GetLabels(),
				"revision": obj.GetAnnotations()["deployment.kubernetes.io/revision"]}
			for _, field := range []string{"spec", "data", "endpoints", "subsets", "ports"} {
				what[field] = obj.Object[field]
			}
			text, _ := json.Marshal(what)
			out[kind.Resource+"/"+obj.GetName()] = string(text)
		}
	}
	return out
}

func (r *rolls) compare(to string, before map[string]string) {
	r.t.Helper()
	now := r.look()
	r.t.Logf("to %s: %d objects compared", to, len(before))
	for name, was := range before {
		switch is := now[name]; {
		case is == "":
			r.t.Errorf("to %s: %s is gone", to, name)
		case is != was:
			r.t.Errorf("to %s: %s was\n%s\nand is\n%s", to, name, was, is)
		}
	}
	for name := range now {
		if before[name] == "" {
			r.t.Errorf("to %s: %s is new", to, name)
		}
	}
}
