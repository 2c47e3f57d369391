package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	schedNamespace = "bench-sched"
	schedPods      = 5000
	schedClients   = 32 // that create pods and nodes at once
	schedPatience  = 10 * time.Minute
)

// workload is pods of one shape on nodes that are objects only: nothing but the API server and a scheduler acts on them.
type workload struct {
	key   string
	nodes int
	shape func(p *corev1.Pod)
}

var workloads = []workload{
	{"plain1000", 1000, func(*corev1.Pod) {}},
	{"spread1000", 1000, spreadOverZones},
	{"affinity1000", 1000, nearGroup},
	{"antiaffinity1000", 1000, apartFromGroup},
	{"plain5000", 5000, func(*corev1.Pod) {}},
	{"plain15000", 15000, func(*corev1.Pod) {}},
}

func spreadOverZones(p *corev1.Pod) {
	p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "bench"}},
	}}
}

func groupTerm(p *corev1.Pod, key string) []corev1.PodAffinityTerm {
	return []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"group": p.Labels["group"]}}}}
}

func nearGroup(p *corev1.Pod) {
	p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: groupTerm(p, corev1.LabelTopologyZone)}}
}

func apartFromGroup(p *corev1.Pod) {
	p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: groupTerm(p, corev1.LabelHostname)}}
}

// pod is the i-th pod of a workload, one of 100 groups.
func (w *workload) pod(i int) *corev1.Pod {
	no := false
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%06d", i), Labels: map[string]string{"app": "bench", "group": fmt.Sprint("g", i%100)}}}
	p.Spec.AutomountServiceAccountToken = &no
	p.Spec.Containers = []corev1.Container{{Name: "main", Image: "registry.example/none:v1", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
	}}}
	w.shape(p)
	return p
}

var schedRows = []row{
	{"scheduler", "plain1000", "schedule 5,000 pods through the API on 1,000 nodes", "pods/s", false, 3},
	{"scheduler", "plain1000cpu", "the same: CPU of the scheduler for each pod", "ms", true, 10},
	{"scheduler", "spread1000", "the same with required spread over ten zones", "pods/s", false, 4},
	{"scheduler", "spread1000cpu", "the same: CPU of the scheduler for each pod", "ms", true, 20},
	{"scheduler", "affinity1000", "the same with required affinity, 100 groups by zone", "pods/s", false, 4},
	{"scheduler", "affinity1000cpu", "the same: CPU of the scheduler for each pod", "ms", true, 20},
	{"scheduler", "antiaffinity1000", "the same with required anti-affinity, 100 groups by node", "pods/s", false, 4},
	{"scheduler", "antiaffinity1000cpu", "the same: CPU of the scheduler for each pod", "ms", true, 20},
	{"scheduler", "plain5000", "schedule 5,000 pods through the API on 5,000 nodes", "pods/s", false, 3},
	{"scheduler", "plain5000cpu", "the same: CPU of the scheduler for each pod", "ms", true, 10},
	{"scheduler", "plain15000", "schedule 5,000 pods through the API on 15,000 nodes", "pods/s", false, 3},
	{"scheduler", "plain15000cpu", "the same: CPU of the scheduler for each pod", "ms", true, 10},
}

// measureScheduler lets kube-scheduler and ours place the same pods, in turn, against one API server of this project, both
// with the same configuration file and without limits to their clients.
func measureScheduler(ctx context.Context, o options) (out []measured, err error) {
	for i := range workloads {
		w := &workloads[i]
		if o.only != "" && o.only != w.key {
			continue
		}
		rate, cost := measured{Key: w.key}, measured{Key: w.key + "cpu"}
		if err := w.measure(ctx, o, &rate, &cost); err != nil {
			return out, fmt.Errorf("%s: %w", w.key, err)
		}
		out = append(out, rate, cost)
	}
	return out, nil
}

func (w *workload) measure(ctx context.Context, o options, rate, cost *measured) error {
	s, err := startStage(ctx, o)
	if err != nil {
		return err
	}
	defer s.end()
	if err := s.prepare(ctx, w.nodes); err != nil {
		return err
	}
	config := filepath.Join(s.dir, "scheduler.yaml")
	text := "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nleaderElection: {leaderElect: false}\n" +
		"clientConnection: {kubeconfig: " + s.kubeconfig + ", qps: 100000, burst: 100000, contentType: application/vnd.kubernetes.protobuf}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	sides := [2][]string{
		{filepath.Join(o.peers, "kube-scheduler"), "--config=" + config, "--secure-port=10391", "--cert-dir=" + s.dir, "--authentication-kubeconfig=" + s.kubeconfig, "--authorization-kubeconfig=" + s.kubeconfig},
		{filepath.Join(o.bin, "hardway-scheduler"), "--config=" + config, "--secure-port=0"},
	}
	for n := range o.runs {
		for side, command := range sides {
			r, err := w.run(ctx, s, command)
			if err != nil {
				return fmt.Errorf("run %d of %s: %w", n+1, command[0], err)
			}
			fmt.Printf("%-17s %-18s run %d: %5.0f pods/s, %.2f ms CPU a pod, created to bound p50 %v p99 %v, %.0f MiB\n", w.key, filepath.Base(command[0]), n+1,
				r.rate, r.cost, r.p50.Round(time.Millisecond), r.p99.Round(time.Millisecond), r.memory)
			if side == 0 {
				rate.Upstream, cost.Upstream = append(rate.Upstream, r.rate), append(cost.Upstream, r.cost)
			} else {
				rate.Ours, cost.Ours = append(rate.Ours, r.rate), append(cost.Ours, r.cost)
			}
		}
	}
	return nil
}

type schedResult struct {
	rate, cost, memory float64 // pods/s, ms of CPU for each pod, MiB
	p50, p99           time.Duration
}

// stage is an API server of this project with nothing else connected to it.
type stage struct {
	dir, kubeconfig string
	side            *apiSide
	clients         []*kubernetes.Clientset
}

func startStage(ctx context.Context, o options) (*stage, error) {
	dir, err := os.MkdirTemp("", "bench-scheduler")
	if err != nil {
		return nil, err
	}
	sides, err := apiSides(o, dir)
	if err != nil {
		return nil, err
	}
	s := &stage{dir: dir, kubeconfig: filepath.Join(dir, "kubeconfig"), side: sides[1]}
	if _, err := s.side.start(ctx); err != nil {
		return nil, err
	}
	if s.clients, err = s.side.clients(4); err != nil {
		return nil, err
	}
	config := s.side.config()
	return s, clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, s.kubeconfig)
}

func (s *stage) end() {
	s.side.stop()
	_ = os.RemoveAll(s.dir)
}

// run starts a scheduler, lets it take the nodes in by placing one pod, and measures from the first creation to the last binding.
func (w *workload) run(ctx context.Context, s *stage, command []string) (r schedResult, err error) {
	ctx, cancel := context.WithTimeout(ctx, schedPatience)
	defer cancel()
	log, err := os.Create(filepath.Join(s.dir, filepath.Base(command[0])+".log"))
	if err != nil {
		return r, err
	}
	defer func() { _ = log.Close() }()
	scheduler := exec.CommandContext(ctx, command[0], command[1:]...)
	scheduler.Stdout, scheduler.Stderr = log, log
	scheduler.Cancel = func() error { return scheduler.Process.Signal(os.Interrupt) }
	scheduler.WaitDelay = 10 * time.Second
	if err := scheduler.Start(); err != nil {
		return r, err
	}
	defer func() {
		cancel()
		_ = scheduler.Wait()
		err = errors.Join(err, s.clear(context.WithoutCancel(ctx)))
	}()
	if _, err := s.place(ctx, 1, func(int) *corev1.Pod { p := w.pod(0); p.Name = "warm"; return p }); err != nil {
		text, _ := os.ReadFile(log.Name())
		return r, fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):])
	}
	before, err := cpu(scheduler.Process.Pid)
	if err != nil {
		return r, err
	}
	started := time.Now()
	latencies, err := s.place(ctx, schedPods, w.pod)
	if err != nil {
		return r, err
	}
	took := time.Since(started)
	after, err := cpu(scheduler.Process.Pid)
	if err != nil {
		return r, err
	}
	slices.Sort(latencies)
	r.rate, r.cost = schedPods/took.Seconds(), (after-before)*1000/schedPods
	r.p50, r.p99 = latencies[len(latencies)/2], latencies[len(latencies)*99/100]
	r.memory, err = rss(scheduler.Process.Pid)
	return r, err
}

// place creates pods and waits until all have a node. It returns how long each took.
func (s *stage) place(ctx context.Context, n int, pod func(i int) *corev1.Pod) ([]time.Duration, error) {
	watch, err := s.clients[0].CoreV1().Pods(schedNamespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	defer watch.Stop()
	var mu sync.Mutex
	created := map[string]time.Time{}
	failed := make(chan error, 1)
	go func() {
		failed <- parallel(ctx, n, func(i int) error {
			p := pod(i)
			mu.Lock()
			created[p.Name] = time.Now()
			mu.Unlock()
			_, err := s.clients[i%len(s.clients)].CoreV1().Pods(schedNamespace).Create(ctx, p, metav1.CreateOptions{})
			return err
		})
	}()
	bound := map[string]bool{}
	var out []time.Duration
	for len(out) < n {
		select {
		case err := <-failed:
			if err != nil {
				return nil, fmt.Errorf("create pods: %w", err)
			}
			failed = nil
		case e, ok := <-watch.ResultChan():
			p, is := e.Object.(*corev1.Pod)
			if !ok || !is {
				return nil, fmt.Errorf("the watch ended with %d of %d pods bound: %w", len(out), n, ctx.Err())
			}
			if p.Spec.NodeName == "" || bound[p.Name] {
				continue
			}
			mu.Lock()
			since, ours := created[p.Name]
			mu.Unlock()
			if ours {
				bound[p.Name] = true
				out = append(out, time.Since(since))
			}
		}
	}
	return out, nil
}

// clear removes the pods.
func (s *stage) clear(ctx context.Context) error {
	pods := s.clients[0].CoreV1().Pods(schedNamespace)
	if err := pods.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}, metav1.ListOptions{}); err != nil {
		return fmt.Errorf("remove pods: %w", err)
	}
	left, err := pods.List(ctx, metav1.ListOptions{Limit: 1})
	if err == nil && len(left.Items) > 0 {
		err = fmt.Errorf("pods are left after their removal")
	}
	return err
}

// prepare makes the namespace and the nodes, in ten zones.
func (s *stage) prepare(ctx context.Context, nodes int) error {
	core := s.clients[0].CoreV1()
	if _, err := core.Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: schedNamespace}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := core.ServiceAccounts(schedNamespace).Create(ctx, account, metav1.CreateOptions{}); err != nil {
		return err
	}
	return parallel(ctx, nodes, func(i int) error { return makeNode(ctx, s.clients[i%len(s.clients)], i) })
}

func makeNode(ctx context.Context, api kubernetes.Interface, i int) error {
	name := fmt.Sprintf("node-%05d", i)
	offer := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods: resource.MustParse("110"), corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
	}
	now := metav1.Now()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		corev1.LabelHostname: name, corev1.LabelTopologyZone: "zone-" + strconv.Itoa(i%10), corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
	}}}
	n.Status = corev1.NodeStatus{Capacity: offer, Allocatable: offer, Conditions: []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: now, LastTransitionTime: now,
	}}}
	made, err := api.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if len(made.Spec.Taints) > 0 { // of a new node, which a controller would take away
		made.Spec.Taints = nil
		if made, err = api.CoreV1().Nodes().Update(ctx, made, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	if len(made.Status.Allocatable) == 0 {
		made.Status = n.Status
		_, err = api.CoreV1().Nodes().UpdateStatus(ctx, made, metav1.UpdateOptions{})
	}
	return err
}

// parallel does something n times, as many at once as there are clients, and returns the first failure.
func parallel(ctx context.Context, n int, do func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range schedClients {
		wg.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					cancel(fmt.Errorf("the %d-th: %w", i, err))
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}
