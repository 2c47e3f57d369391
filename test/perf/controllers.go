package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

const (
	ctlDeployments, ctlEach = 1000, 5
	ctlScale                = 5000
	ctlJobs                 = 10000
	ctlObjects              = 10000
	ctlChanges              = 500
	ctlPods                 = 50000
	ctlNode                 = "bench"
	ctlPatience             = 10 * time.Minute
)

var ctlRows = []row{
	{"controllers", "deploy", "1,000 Deployments of 5 pods at once, until all pods exist", "s", true, 1},
	{"controllers", "deploycpu", "the same: CPU of the controllers", "s", true, 2},
	{"controllers", "scale", "one Deployment from 0 to 5,000 pods", "s", true, 1},
	{"controllers", "slices", "a pod of a Service of 5,000 changes, until its EndpointSlice shows it, p50 at 50 changes a second", "ms", true, 1},
	{"controllers", "slicescpu", "the same: CPU of the controllers for each change", "ms", true, 2},
	{"controllers", "jobs", "10,000 Jobs at once until all are complete", "s", true, 1},
	{"controllers", "jobscpu", "the same: CPU of the controllers", "s", true, 2},
	{"controllers", "namespace", "a namespace with 10,000 ConfigMaps, deleted until gone", "s", true, 1},
	{"controllers", "memory", "memory of the controllers, 50,000 pods in the cluster", "MiB", true, 2},
	{"controllers", "idle", "CPU of the idle controllers, 50,000 pods in the cluster", "% of a core", true, 4.5},
	{"controllers", "standby", "leader killed, until a standby acts, with the default Lease of 15 s", "s", true, 1},
	{"controllers", "restart", "leader killed and started again, until it acts", "s", true, 2},
}

// measureControllers lets kube-controller-manager and ours do the same work, in turn, each against a fresh API server of this
// project. There is one node and it is an object only: pods are made ready, or ended, by this program.
func measureControllers(ctx context.Context, o options) ([]measured, error) {
	out := make([]measured, len(ctlRows))
	for i, r := range ctlRows {
		out[i].Key = r.key
	}
	report := func(m *measured, side int, v float64) {
		if side == 0 {
			m.Upstream = append(m.Upstream, v)
		} else {
			m.Ours = append(m.Ours, v)
		}
	}
	for n := range o.runs {
		for side, name := range []string{"upstream", "hardway"} {
			figures, err := controllersRun(ctx, o, side == 0)
			if err != nil {
				return nil, fmt.Errorf("run %d of %s: %w", n+1, name, err)
			}
			for i := range out {
				if v, done := figures[out[i].Key]; done {
					fmt.Printf("run %d %-9s %-10s %8.3f %s\n", n+1, name, out[i].Key, v, ctlRows[i].unit)
					report(&out[i], side, v)
				}
			}
		}
	}
	return slices.DeleteFunc(out, func(m measured) bool { return len(m.Ours) == 0 }), nil
}

// office is a stage with controllers at work.
type office struct {
	*stage
	ctx     context.Context
	command func(port int) []string
	size    func(full int) int // smaller for a try
	leader  *exec.Cmd
	pods    int // that were made
	figures map[string]float64
}

func controllersRun(ctx context.Context, o options, upstream bool) (map[string]float64, error) {
	s, err := startStage(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.end()
	f := &office{stage: s, ctx: ctx, figures: map[string]float64{}, size: func(full int) int {
		if o.small {
			return max(full/100, 5)
		}
		return full
	}}
	f.command = func(port int) []string {
		common := []string{"--kubeconfig=" + s.kubeconfig, "--leader-elect=true", "--bind-address=127.0.0.1", fmt.Sprint("--secure-port=", port),
			"--root-ca-file=" + filepath.Join(s.dir, "ca.pem"), "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller"}
		if !upstream {
			return append([]string{filepath.Join(o.bin, "hardway-controllers")}, common...)
		}
		return append([]string{filepath.Join(o.peers, "kube-controller-manager"), "--kube-api-qps=100000", "--kube-api-burst=100000", "--cert-dir=" + s.dir,
			"--authentication-kubeconfig=" + s.kubeconfig, "--authorization-kubeconfig=" + s.kubeconfig}, common...)
	}
	if f.leader, err = f.hire(10391); err != nil {
		return nil, err
	}
	defer func() { fire(f.leader) }()
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"prepare", f.prepareNode}, {"deploy", f.deploy}, {"scale", f.scale}, {"slices", f.churn}, {"jobs", f.jobs}, {"namespace", f.namespace},
		{"memory", f.memory}, {"standby", f.standby}, {"restart", f.restart},
	} {
		if step.name != "prepare" && o.only != "" && !slices.Contains(strings.Split(o.only, ","), step.name) {
			continue
		}
		begin := time.Now()
		if err := step.do(); err != nil {
			text, _ := os.ReadFile(filepath.Join(s.dir, "controllers.log"))
			return nil, fmt.Errorf("%s: %w\n%s", step.name, err, text[max(0, len(text)-3000):])
		}
		fmt.Printf("%s %s took %v in all\n", filepath.Base(f.leader.Path), step.name, time.Since(begin).Round(time.Millisecond))
	}
	return f.figures, nil
}

// hire starts controllers; the first ones lead.
func (f *office) hire(port int) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(f.dir, "controllers.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	line := f.command(port)
	cmd := exec.CommandContext(f.ctx, line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, cmd.Start()
}

func fire(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// api is one of the clients.
func (f *office) api(i int) *kubernetes.Clientset { return f.clients[i%len(f.clients)] }

// prepareNode makes the node, and waits until the controllers work.
func (f *office) prepareNode() error {
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100k"), corev1.ResourceMemory: resource.MustParse("1Pi"), corev1.ResourcePods: resource.MustParse("1M")}
	ready := []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}}
	node, err := f.api(0).CoreV1().Nodes().Create(f.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: ctlNode}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	node.Status = corev1.NodeStatus{Capacity: room, Allocatable: room, Conditions: ready}
	if _, err := f.api(0).CoreV1().Nodes().UpdateStatus(f.ctx, node, metav1.UpdateOptions{}); err != nil {
		return err
	}
	return f.space("warm")
}

// space makes a namespace and waits for its account.
func (f *office) space(name string) error {
	if _, err := f.api(0).CoreV1().Namespaces().Create(f.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	return f.until("its account is there", func() (bool, error) {
		_, err := f.api(0).CoreV1().ServiceAccounts(name).Get(f.ctx, "default", metav1.GetOptions{})
		return err == nil, ignoreMissing(err)
	})
}

func ignoreMissing(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// until asks every few milliseconds.
func (f *office) until(what string, ok func() (bool, error)) error {
	for deadline := time.Now().Add(ctlPatience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if yes, err := ok(); yes || err != nil {
			return err
		}
	}
	return errors.New("not in time: " + what)
}

// follow watches until see returns true for an event.
func (f *office) follow(w watch.Interface, see func(watch.Event) bool) error {
	defer w.Stop()
	timeout := time.After(ctlPatience)
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok || e.Type == watch.Error {
				return fmt.Errorf("the watch ended: %+v", e.Object)
			}
			if see(e) {
				return nil
			}
		case <-timeout:
			return errors.New("not in time")
		}
	}
}

// used measures the CPU of the leader during do.
func (f *office) used(key string, scale float64, do func() error) error {
	before, err := cpu(f.leader.Process.Pid)
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	after, err := cpu(f.leader.Process.Pid)
	f.figures[key] = (after - before) * scale
	return err
}

func ctlTemplate(app string) corev1.PodTemplateSpec {
	no := false
	probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}}
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}}, Spec: corev1.PodSpec{
		NodeName: ctlNode, AutomountServiceAccountToken: &no,
		Containers: []corev1.Container{{
			Name: "main", Image: "registry.example/none:v1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}, LivenessProbe: probe, ReadinessProbe: probe,
			Env:       []corev1.EnvVar{{Name: "LEVEL", Value: "info"}, {Name: "NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")}},
		}},
	}}
}

func ctlDeployment(name string, replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}, Template: ctlTemplate(name),
	}}
}

// added counts new pods of a namespace.
func (f *office) added(namespace string, n int, start func() error) (float64, error) {
	w, err := f.api(0).CoreV1().Pods(namespace).Watch(f.ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	failed := make(chan error, 1)
	begin := time.Now()
	go func() { failed <- start() }()
	seen := 0
	f.pods += n
	err = f.follow(w, func(e watch.Event) bool {
		if e.Type == watch.Added {
			seen++
		}
		return seen == n
	})
	return time.Since(begin).Seconds(), errors.Join(err, <-failed)
}

func (f *office) deploy() error {
	if err := f.space("deploy"); err != nil {
		return err
	}
	return f.used("deploycpu", 1, func() (err error) {
		n := f.size(ctlDeployments)
		f.figures["deploy"], err = f.added("deploy", n*ctlEach, func() error {
			return parallel(f.ctx, n, func(i int) error {
				_, err := f.api(i).AppsV1().Deployments("deploy").Create(f.ctx, ctlDeployment(fmt.Sprint("d", i), ctlEach), metav1.CreateOptions{})
				return err
			})
		})
		return err
	})
}

func (f *office) scale() error {
	if err := f.space("scale"); err != nil {
		return err
	}
	if _, err := f.api(0).AppsV1().Deployments("scale").Create(f.ctx, ctlDeployment("big", 0), metav1.CreateOptions{}); err != nil {
		return err
	}
	err := f.until("its ReplicaSet is there", func() (bool, error) {
		sets, err := f.api(0).AppsV1().ReplicaSets("scale").List(f.ctx, metav1.ListOptions{})
		return err == nil && len(sets.Items) == 1, err
	})
	if err != nil {
		return err
	}
	n := f.size(ctlScale)
	f.figures["scale"], err = f.added("scale", n, func() error {
		patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n)
		_, err := f.api(0).AppsV1().Deployments("scale").Patch(f.ctx, "big", types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
	return err
}

// report plays the node's agent for a pod of namespace scale.
func (f *office) report(i int, name, ip string, ready bool) error {
	status := map[bool]string{true: "True", false: "False"}[ready]
	patch := fmt.Appendf(nil, `{"status":{"phase":"Running","podIP":%q,"podIPs":[{"ip":%q}],"conditions":[{"type":"Ready","status":%q,"lastTransitionTime":%q}]}}`,
		ip, ip, status, time.Now().UTC().Format(time.RFC3339))
	_, err := f.api(i).CoreV1().Pods("scale").Patch(f.ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// churn makes the pods of the big Deployment a Service's, and then changes one after the other.
func (f *office) churn() error {
	pods, err := f.api(0).CoreV1().Pods("scale").List(f.ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	ip := func(i int) string { return fmt.Sprintf("10.200.%d.%d", i/250, i%250+1) }
	n := len(pods.Items)
	if err := parallel(f.ctx, n, func(i int) error { return f.report(i, pods.Items[i].Name, ip(i), true) }); err != nil {
		return err
	}
	w, err := f.api(1).DiscoveryV1().EndpointSlices("scale").Watch(f.ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "big"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "big"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}}
	if _, err := f.api(0).CoreV1().Services("scale").Create(f.ctx, svc, metav1.CreateOptions{}); err != nil {
		return err
	}
	var mu sync.Mutex // guards all below
	shown, asked := map[string]bool{}, map[string]time.Time{}
	var took []float64
	full, done := make(chan struct{}), make(chan error, 1)
	changes := min(f.size(ctlChanges), n)
	go func() {
		done <- f.follow(w, func(e watch.Event) bool {
			mu.Lock()
			defer mu.Unlock()
			for _, p := range e.Object.(*discoveryv1.EndpointSlice).Endpoints {
				a, ready := p.Addresses[0], p.Conditions.Ready != nil && *p.Conditions.Ready
				shown[a] = ready
				if at, waits := asked[a]; waits && !ready {
					took = append(took, time.Since(at).Seconds()*1000)
					delete(asked, a)
				}
			}
			if full != nil && len(shown) == n {
				close(full)
				full = nil
			}
			return len(took) == changes
		})
	}()
	mu.Lock()
	begun := full
	mu.Unlock()
	if begun != nil {
		select {
		case <-begun:
		case err := <-done:
			return fmt.Errorf("before all were shown: %w", err)
		}
	}
	err = f.used("slicescpu", 1000/float64(changes), func() error {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := range changes {
			<-tick.C
			at := i * (n / changes) // all over the slices
			mu.Lock()
			asked[ip(at)] = time.Now()
			mu.Unlock()
			if err := f.report(i, pods.Items[at].Name, ip(at), false); err != nil {
				return err
			}
		}
		return <-done
	})
	slices.Sort(took)
	if len(took) > 0 {
		f.figures["slices"] = took[len(took)/2]
		fmt.Printf("slices: p50 %.1f ms, p99 %.1f ms\n", took[len(took)/2], took[len(took)*99/100])
	}
	return err
}

// jobs ends every pod as soon as it is there.
func (f *office) jobs() error {
	if err := f.space("jobs"); err != nil {
		return err
	}
	n := f.size(ctlJobs)
	f.pods += n
	ctx, stop := context.WithCancel(f.ctx)
	defer stop()
	pods, err := f.api(0).CoreV1().Pods("jobs").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	agents := make(chan string, n)
	for i := range 8 {
		go func() {
			for name := range agents {
				_, err := f.api(i).CoreV1().Pods("jobs").Patch(ctx, name, types.StrategicMergePatchType, []byte(`{"status":{"phase":"Succeeded"}}`), metav1.PatchOptions{}, "status")
				if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
					fmt.Printf("end pod %s: %v\n", name, err)
				}
			}
		}()
	}
	go func() {
		defer close(agents)
		for e := range pods.ResultChan() {
			if p, ok := e.Object.(*corev1.Pod); ok && e.Type == watch.Added {
				agents <- p.Name
			}
		}
	}()
	w, err := f.api(1).BatchV1().Jobs("jobs").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	return f.used("jobscpu", 1, func() error {
		begin := time.Now()
		failed := make(chan error, 1)
		go func() {
			failed <- parallel(ctx, n, func(i int) error {
				template := ctlTemplate("job")
				template.Spec.RestartPolicy = corev1.RestartPolicyNever
				_, err := f.api(i).BatchV1().Jobs("jobs").Create(ctx, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("j", i)}, Spec: batchv1.JobSpec{Template: template}}, metav1.CreateOptions{})
				return err
			})
		}()
		complete := map[string]bool{}
		err := f.follow(w, func(e watch.Event) bool {
			if j := e.Object.(*batchv1.Job); slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
				return c.Type == batchv1.JobComplete && c.Status == corev1.ConditionTrue
			}) {
				complete[j.Name] = true
			}
			return len(complete) == n
		})
		f.figures["jobs"] = time.Since(begin).Seconds()
		return errors.Join(err, <-failed)
	})
}

func (f *office) namespace() error {
	if err := f.space("full"); err != nil {
		return err
	}
	err := parallel(f.ctx, f.size(ctlObjects), func(i int) error {
		_, err := f.api(i).CoreV1().ConfigMaps("full").Create(f.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("c", i)}, Data: map[string]string{"a": strings.Repeat("x", 200)}}, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := f.api(0).CoreV1().Namespaces().Delete(f.ctx, "full", metav1.DeleteOptions{}); err != nil {
		return err
	}
	err = f.until("the namespace is gone", func() (bool, error) {
		_, err := f.api(0).CoreV1().Namespaces().Get(f.ctx, "full", metav1.GetOptions{})
		return apierrors.IsNotFound(err), ignoreMissing(err)
	})
	f.figures["namespace"] = time.Since(begin).Seconds()
	return err
}

// memory fills the cluster up, lets the controllers come to rest, and looks at them.
func (f *office) memory() error {
	more := f.size(ctlPods) - f.pods
	if err := f.space("more"); err != nil {
		return err
	}
	template := ctlTemplate("more")
	err := parallel(f.ctx, more, func(i int) error {
		_, err := f.api(i).CoreV1().Pods("more").Create(f.ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i), Labels: template.Labels}, Spec: template.Spec}, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	time.Sleep(20 * time.Second) // what is left to do is done, and garbage collected
	const rest = 20
	if err := f.used("idle", 100.0/rest, func() error { time.Sleep(rest * time.Second); return nil }); err != nil {
		return err
	}
	f.figures["memory"], err = rss(f.leader.Process.Pid)
	return err
}

// acts measures until somebody makes a ReplicaSet for a new Deployment.
func (f *office) acts(key, name string, begin time.Time) error {
	if _, err := f.api(0).AppsV1().Deployments("warm").Create(f.ctx, ctlDeployment(name, 1), metav1.CreateOptions{}); err != nil {
		return err
	}
	err := f.until("somebody acts", func() (bool, error) {
		sets, err := f.api(0).AppsV1().ReplicaSets("warm").List(f.ctx, metav1.ListOptions{LabelSelector: "app=" + name})
		return err == nil && len(sets.Items) > 0, err
	})
	f.figures[key] = time.Since(begin).Seconds()
	return err
}

// standby has a second process take over from the first, which is killed.
func (f *office) standby() error {
	second, err := f.hire(10392)
	if err != nil {
		return err
	}
	time.Sleep(30 * time.Second) // it has filled its caches, where it does that before it leads
	fire(f.leader)
	begin := time.Now()
	f.leader = second
	return f.acts("standby", "after-standby", begin)
}

// restart has the leader killed and started again at once, as by systemd.
func (f *office) restart() error {
	fire(f.leader)
	begin := time.Now()
	var err error
	if f.leader, err = f.hire(10392); err != nil {
		return err
	}
	return f.acts("restart", "after-restart", begin)
}
