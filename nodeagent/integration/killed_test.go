package integration

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"hardway/shared/client"
)

// How hard the tests of this file are; the whole series is -kills=100 -idle-pods=30 and -kills=200 -busy-pods=30.
var (
	kills    = flag.Int("kills", 5, "how often the agent is killed")
	idlePods = flag.Int("idle-pods", 6, "pods that run while the agent is killed")
	busyPods = flag.Int("busy-pods", 6, "pods that start and stop while the agent is killed")
	seed     = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the instants at which the agent is killed")
)

// TestKilledUnderRunningPods kills the agent again and again: nobody who watches the API may see anything of it.
func TestKilledUnderRunningPods(t *testing.T) {
	a := start(t)
	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 1))
	for i := range *idlePods {
		a.create(fmt.Sprintf("idle-%d", i), func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 20, FailureThreshold: 10, ProbeHandler: corev1.ProbeHandler{
				Exec: &corev1.ExecAction{Command: []string{"true"}}}}
		})
	}
	for i := range *idlePods {
		a.until(fmt.Sprintf("idle-%d", i), "ready", ready)
	}
	a.eventually("all statuses are stored", func(ctx context.Context) error { return a.quiet(ctx, time.Second) })
	pods, err := client.Pods.List(t.Context(), a.api, "default", metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	podWrites, err := client.Pods.Watch(t.Context(), a.api, "default", metav1.ListOptions{ResourceVersion: pods.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer podWrites.Stop()
	nodeWrites, err := client.Nodes.Watch(t.Context(), a.api, "", metav1.ListOptions{ResourceVersion: pods.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer nodeWrites.Stop()
	for range *kills {
		a.kill()
		a.launch()
		pause(random, 3*time.Second)
	}
	a.eventually("the last agent serves", func(context.Context) error { return a.listens() })
	a.eventually("nothing is written any more", func(ctx context.Context) error { return a.quiet(ctx, 3*time.Second) })
	for e := range waiting(podWrites) {
		p, ok := e.Object.(*corev1.Pod)
		t.Errorf("pod written: %s %+v (%v)", e.Type, p, ok)
	}
	for e := range waiting(nodeWrites) {
		if n, ok := e.Object.(*corev1.Node); !ok || !nodeReady(n) {
			t.Errorf("the node was not ready: %s %+v", e.Type, e.Object)
		}
	}
}

// TestKilledUnderBusyPods kills the agent while pods start, end and are deleted. Nothing may be left of them, none may
// run twice, and each that ended must show how.
func TestKilledUnderBusyPods(t *testing.T) {
	a := start(t)
	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 2))
	if err := os.Mkdir(a.path("starts"), 0o777); err != nil {
		t.Fatal(err)
	}
	round := 0
	for range *kills {
		for i := range *busyPods {
			a.busy(fmt.Sprintf("busy-%d", i), round)
		}
		round++
		pause(random, 1500*time.Millisecond)
		a.kill()
		pause(random, 200*time.Millisecond)
		a.launch()
	}
	a.eventually("the last agent serves", func(context.Context) error { return a.listens() })
	list, err := client.Pods.List(t.Context(), a.api, "default", metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			a.until(p.Name, "its end", endedRight)
		}
		if err := client.Pods.Delete(t.Context(), a.api, p.Namespace, p.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
	}
	a.eventually("nothing is left", func(context.Context) error { return a.leftovers() })
	files, err := os.ReadDir(a.path("starts"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if data, err := os.ReadFile(a.path("starts/" + f.Name())); err != nil || string(data) != "started\n" {
			t.Errorf("%s was started so: %q, %v", f.Name(), data, err)
		}
	}
	t.Logf("%d containers were started", len(files))
}

// busy moves the pod of that name one step on: it is made, or deleted. Each makes a note of every start, and ends
// differently.
func (a *agent) busy(name string, round int) {
	a.t.Helper()
	err := client.Pods.Delete(a.t.Context(), a.api, "default", name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(round % 2))})
	if err == nil {
		return
	}
	if !apierrors.IsNotFound(err) {
		a.t.Fatal(err)
	}
	a.create(name, func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Annotations = map[string]string{"code": fmt.Sprint(round % 3)}
		p.Spec.Volumes = []corev1.Volume{{Name: "starts", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: a.path("starts")}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "starts", MountPath: "/starts"}}
		p.Spec.Containers[0].Command = []string{"sh", "-c", fmt.Sprintf("echo started >> /starts/%s-%d; sleep 0.%d; exit %d", name, round, random10(name, round), round%3)}
	})
}

func random10(name string, round int) int { return (len(name)*7 + round*3) % 10 }

// endedRight says whether the pod has ended as its script does.
func endedRight(p *corev1.Pod) bool {
	want := corev1.PodFailed
	if p.Annotations["code"] == "0" {
		want = corev1.PodSucceeded
	}
	if p.Status.Phase != want || len(p.Status.ContainerStatuses) != 1 {
		return false
	}
	s := p.Status.ContainerStatuses[0].State.Terminated
	return s != nil && fmt.Sprint(s.ExitCode) == p.Annotations["code"]
}

// leftovers says what there still is of pods on the node.
func (a *agent) leftovers() error {
	var errs []error
	for _, dir := range []string{"run/pods", "containers", "kubelet/pods", "logs/pods"} {
		entries, err := os.ReadDir(a.path(dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			errs = append(errs, fmt.Errorf("%s is left in %s", e.Name(), dir))
		}
	}
	for _, dir := range cgroups() {
		if strings.Contains(filepath.Base(dir), "pod") && filepath.Base(dir) != "kubepods" {
			errs = append(errs, fmt.Errorf("cgroup %s is left", dir))
		}
	}
	links, err := net.Interfaces()
	errs = append(errs, err)
	for _, l := range links {
		if strings.HasPrefix(l.Name, "hw") && l.Name != "hw0" {
			errs = append(errs, fmt.Errorf("link %s is left", l.Name))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	errs = append(errs, err)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, a.path("run/pods")) || strings.Contains(line, a.path("kubelet/pods")) {
			errs = append(errs, fmt.Errorf("mount is left: %s", line))
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	errs = append(errs, err)
	for _, f := range processes {
		if data, err := os.ReadFile(f); err == nil && strings.Contains(string(data), a.path("run/pods")) {
			errs = append(errs, fmt.Errorf("process is left: %s %q", f, data))
		}
	}
	addresses, err := filepath.Glob(a.path("run/network/*/*"))
	errs = append(errs, err)
	for _, f := range addresses {
		errs = append(errs, fmt.Errorf("address is left: %s", f))
	}
	return errors.Join(errs...)
}

// quiet fails when a pod is written within d.
func (a *agent) quiet(ctx context.Context, d time.Duration) error {
	list, err := client.Pods.List(ctx, a.api, "default", metav1.ListOptions{})
	if err != nil {
		return err
	}
	w, err := client.Pods.Watch(ctx, a.api, "default", metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return err
	}
	defer w.Stop()
	select {
	case e := <-w.ResultChan():
		data, err := json.Marshal(e.Object)
		return fmt.Errorf("written: %s %s, %w", e.Type, data, err)
	case <-time.After(d):
		return nil
	}
}

func (a *agent) listens() error {
	c, err := net.DialTimeout("tcp", nodeIP+":10250", time.Second)
	if err == nil {
		err = c.Close()
	}
	return err
}

func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// waiting goes over what a watch has delivered so far.
func waiting(w watch.Interface) func(yield func(watch.Event) bool) {
	return func(yield func(watch.Event) bool) {
		for {
			select {
			case e := <-w.ResultChan():
				if !yield(e) {
					return
				}
			default:
				return
			}
		}
	}
}

// pause lets up to d go by: the instant is what the test varies, nothing is waited for.
func pause(random *rand.Rand, d time.Duration) { <-time.After(time.Duration(random.Int64N(int64(d)))) }
