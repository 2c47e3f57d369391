package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/shared/client"
)

// TestAgent runs pods through their lives. One apiserver and one agent serve all subtests.
func TestAgent(t *testing.T) {
	a := start(t)
	t.Run("volumes, environment and init containers", a.sub(testSurroundings))
	t.Run("ends of containers", a.sub(testEnds))
	t.Run("a deleted pod is stopped in order", a.sub(testDeletion))
	t.Run("a killed agent takes over what runs", a.sub(testTakeover))
	t.Run("a dead supervisor is replaced", a.sub(testDeadSupervisor))
}

// sub runs a test with the agent reporting to the subtest.
func (a *agent) sub(f func(a *agent)) func(t *testing.T) {
	return func(t *testing.T) {
		b := *a
		b.t = t
		f(&b)
		a.process, a.log = b.process, b.log
	}
}

func testSurroundings(a *agent) {
	ctx := a.t.Context()
	meta := metav1.ObjectMeta{Namespace: "default", Name: "cm"}
	cm, err := client.ConfigMaps.Create(ctx, a.api, &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"key": "old"}})
	if err != nil {
		a.t.Fatal(err)
	}
	name := corev1.LocalObjectReference{Name: "cm"}
	a.create("surroundings", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{
			{Name: "cm", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name}}},
			{Name: "mem", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
		}
		mounts := []corev1.VolumeMount{{Name: "cm", MountPath: "/cm"}, {Name: "mem", MountPath: "/mem"}, {Name: "mem", MountPath: "/sub", SubPath: "a/b"}}
		p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "busybox", ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"sh", "-c", "echo from-init > /mem/f"}, VolumeMounts: mounts}}
		c := &p.Spec.Containers[0]
		c.VolumeMounts = mounts
		c.Env = []corev1.EnvVar{
			{Name: "KEY", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: name, Key: "key"}}},
			{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
		}
		c.Command = []string{"sh", "-c", `echo "env=$KEY ip=$IP init=$(cat /mem/f) host=$(hostname)"; ls -d /mem/a/b; grep -c ndots /etc/resolv.conf
			while [ "$(cat /cm/key)" = old ]; do sleep 0.1; done; echo changed; sleep 1000`}
	})
	p := a.until("surroundings", "ready", ready)
	a.eventually("it has printed", func(context.Context) error { return has(a.output(p, "c", 0), "1\n") })
	if err := has(a.output(p, "c", 0), "env=old ip="+p.Status.PodIP+" init=from-init host=surroundings\n/mem/a/b\n"); err != nil {
		a.t.Error(err)
	}
	cm.Data["key"] = "new"
	if _, err := client.ConfigMaps.Update(ctx, a.api, cm); err != nil {
		a.t.Fatal(err)
	}
	a.eventually("the change reaches the volume", func(context.Context) error { return has(a.output(p, "c", 0), "changed\n") })
}

func has(text, part string) error {
	if !strings.Contains(text, part) {
		return fmt.Errorf("no %q in %q", part, text)
	}
	return nil
}

func testEnds(a *agent) {
	never := func(script string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			shell(script)(p)
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			p.Spec.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
		}
	}
	a.create("succeeds", never("echo bye > /dev/termination-log"))
	a.create("fails", never("echo last words; exit 3"))
	a.create("crashes", shell("exit 1"))
	a.create("no-program", func(p *corev1.Pod) {
		p.Spec.Containers[0].Command = []string{"/none"}
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
	})
	a.create("no-image", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "127.0.0.1:1/no:1" })
	a.create("no-config", func(p *corev1.Pod) {
		p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}}}}
	})
	a.create("no-room", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("100Ti")}
	})
	a.create("not-live", func(p *corev1.Pod) {
		p.Spec.Containers[0].LivenessProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1, TerminationGracePeriodSeconds: new(int64(1)),
			ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"false"}}}}
	})
	first := func(p *corev1.Pod) corev1.ContainerStatus {
		if len(p.Status.ContainerStatuses) == 0 {
			return corev1.ContainerStatus{}
		}
		return p.Status.ContainerStatuses[0]
	}
	waits := func(reason string) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool { w := first(p).State.Waiting; return w != nil && w.Reason == reason }
	}
	ended := func(phase corev1.PodPhase, code int32, reason, message string) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			s := first(p).State.Terminated
			return p.Status.Phase == phase && s != nil && s.ExitCode == code && s.Reason == reason && strings.Contains(s.Message, message)
		}
	}
	for name, ok := range map[string]func(*corev1.Pod) bool{
		"succeeds": ended(corev1.PodSucceeded, 0, "Completed", "bye"), "fails": ended(corev1.PodFailed, 3, "Error", "last words"),
		"no-program": ended(corev1.PodFailed, 127, "StartError", "/none"), "crashes": waits("CrashLoopBackOff"), "no-image": waits("ImagePullBackOff"),
		"no-config": waits("CreateContainerConfigError"),
		"no-room": func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "OutOfmemory"
		},
		"not-live": func(p *corev1.Pod) bool {
			return first(p).RestartCount > 0 && first(p).LastTerminationState.Terminated != nil
		},
	} {
		a.until(name, "its end", ok)
	}
}

func testDeletion(a *agent) {
	a.create("polite", func(p *corev1.Pod) {
		shell(`trap 'echo term; sleep 0.2; exit 0' TERM; while true; do sleep 0.1; done`)(p)
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "echo prestop > /tmp/done"}}}}
		p.Finalizers = []string{"hardway.test/look"}
	})
	a.create("deaf", shell(`trap '' TERM; while true; do sleep 0.1; done`))
	for _, n := range []string{"polite", "deaf"} {
		a.until(n, "ready", ready)
		if err := client.Pods.Delete(a.t.Context(), a.api, "default", n, metav1.DeleteOptions{GracePeriodSeconds: new(int64(2))}); err != nil {
			a.t.Fatal(err)
		}
	}
	p := a.until("polite", "final status", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	if err := has(a.output(p, "c", 0), "term\n"); err != nil {
		a.t.Error(err)
	}
	if _, err := client.Pods.Patch(a.t.Context(), a.api, "default", "polite", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)); err != nil {
		a.t.Fatal(err)
	}
	for _, n := range []string{"polite", "deaf"} {
		a.eventually(n+" is gone", func(ctx context.Context) error {
			_, err := client.Pods.Get(ctx, a.api, "default", n)
			if apierrors.IsNotFound(err) {
				return nil
			}
			return fmt.Errorf("still there: %w", err)
		})
	}
	a.eventually("its files are gone", func(context.Context) error {
		left, err := filepath.Glob(a.path("*/pods/*" + string(p.UID) + "*"))
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("left: %v", left)
		}
		return err
	})
}

// testTakeover kills the agent with pods running: they run on, and nothing about them changes in the API.
func testTakeover(a *agent) {
	a.create("stays", func(p *corev1.Pod) {
		shell(`trap 'exit 0' TERM; i=0; while true; do echo $i; i=$((i+1)); sleep 0.1; done`)(p)
		p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
	})
	a.create("leaves", nil)
	a.until("leaves", "ready", ready)
	before := a.until("stays", "ready", ready)
	a.kill()
	if err := client.Pods.Delete(a.t.Context(), a.api, "default", "leaves", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		a.t.Fatal(err)
	}
	lines := strings.Count(a.output(before, "c", 0), "\n")
	a.eventually("it runs on without the agent", func(context.Context) error {
		if n := strings.Count(a.output(before, "c", 0), "\n"); n <= lines+3 {
			return fmt.Errorf("%d lines", n)
		}
		return nil
	})
	a.launch()
	a.eventually("the pod that was deleted meanwhile is cleared away", func(context.Context) error {
		left, err := os.ReadDir(a.path("run/pods"))
		if err != nil {
			return err
		}
		for _, e := range left {
			if data, err := os.ReadFile(a.path("run/pods/" + e.Name() + "/pod.json")); err == nil && strings.Contains(string(data), `"leaves"`) {
				return fmt.Errorf("%s is there", e.Name())
			}
		}
		return nil
	})
	w, err := client.Pods.Watch(a.t.Context(), a.api, "default", metav1.ListOptions{
		FieldSelector: "metadata.name=stays", ResourceVersion: before.ResourceVersion,
	})
	if err != nil {
		a.t.Fatal(err)
	}
	defer w.Stop()
	select {
	case e := <-w.ResultChan():
		a.t.Errorf("the pod was written: %+v\nbefore %+v", e.Object, before.Status)
	case <-time.After(2 * time.Second): // long enough for a probe to run and for a needless write to happen
	}
}

// testDeadSupervisor kills the process that stands over a pod: its containers are lost and started again.
func testDeadSupervisor(a *agent) {
	p := a.create("widowed", nil)
	a.until("widowed", "ready", ready)
	killSupervisor(a, string(p.UID))
	after := a.until("widowed", "restarted", func(p *corev1.Pod) bool {
		return ready(p) && len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount == 1
	})
	if last := after.Status.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.Reason != "ContainerStatusUnknown" {
		a.t.Errorf("last state %+v", last)
	}
}

// killSupervisor finds the pod's supervisor by its command line.
func killSupervisor(a *agent, uid string) {
	a.t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		a.t.Fatal(err)
	}
	for _, f := range procs {
		data, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(data), "supervisor\x00"+a.path("run/pods/"+uid)) {
			continue
		}
		pid := 0
		if _, err := fmt.Sscanf(f, "/proc/%d/cmdline", &pid); err != nil {
			a.t.Fatal(err)
		}
		process, err := os.FindProcess(pid)
		if err == nil {
			err = process.Kill()
		}
		if err != nil {
			a.t.Fatal(err)
		}
		return
	}
	a.t.Fatal("the pod has no supervisor")
}
