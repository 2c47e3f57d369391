package status

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/nodeagent/plan"
	"hardway/nodeagent/runtime"
)

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func input(policy corev1.RestartPolicy, containers ...string) Input {
	in := Input{
		Pod:     &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Spec: corev1.PodSpec{RestartPolicy: policy}},
		Facts:   &plan.Facts{Health: map[string]plan.Health{}, Kills: map[string]*plan.Kill{}, Hooks: map[string]plan.Hook{}},
		HostIPs: []string{"10.0.0.1"}, Now: epoch,
	}
	for _, c := range containers {
		in.Pod.Spec.Containers = append(in.Pod.Spec.Containers, corev1.Container{Name: c, Image: "img"})
	}
	return in
}

func (in Input) sandbox(containers ...runtime.Status) Input {
	in.Observed = &runtime.PodStatus{Alive: true, IPs: []netip.Addr{netip.MustParseAddr("10.200.0.9")}, Containers: containers}
	return in
}

func (in Input) edit(f func(*Input)) Input { f(&in); return in }

func running(name string, attempt int) runtime.Status {
	return runtime.Status{ID: fmt.Sprint(name, attempt), Name: name, Attempt: attempt, State: runtime.Running, Image: "sha", StartedAt: epoch, CreatedAt: epoch}
}

func exited(name string, attempt, code int) runtime.Status {
	s := running(name, attempt)
	s.State, s.ExitCode, s.FinishedAt = runtime.Exited, code, epoch.Add(time.Second)
	return s
}

// brief is a status as a test case writes it: phase, ready, and the state of each container.
func brief(st corev1.PodStatus) string {
	out := string(st.Phase)
	if st.Reason != "" {
		out += "/" + st.Reason
	}
	if IsReady(&st) {
		out += " ready"
	}
	for _, list := range [][]corev1.ContainerStatus{st.InitContainerStatuses, st.ContainerStatuses} {
		for _, s := range list {
			out += " " + s.Name + "=" + state1(s.State)
			if l := s.LastTerminationState; l.Terminated != nil {
				out += "<" + state1(l)
			}
			if s.RestartCount > 0 {
				out += fmt.Sprintf("#%d", s.RestartCount)
			}
		}
	}
	return out
}

func state1(s corev1.ContainerState) string {
	switch {
	case s.Running != nil:
		return "running"
	case s.Terminated != nil:
		return fmt.Sprintf("%s(%d)", s.Terminated.Reason, s.Terminated.ExitCode)
	case s.Waiting != nil:
		return s.Waiting.Reason
	default:
		return "?"
	}
}

func TestCompute(t *testing.T) {
	always, never := corev1.RestartPolicyAlways, corev1.RestartPolicyNever
	restartable := corev1.ContainerRestartPolicyAlways
	withInit := func(c corev1.Container) func(*Input) {
		return func(in *Input) { in.Pod.Spec.InitContainers = append(in.Pod.Spec.InitContainers, c) }
	}
	healthy := func(ids ...string) func(*Input) {
		return func(in *Input) {
			for _, id := range ids {
				in.Facts.Health[id] = plan.Health{Started: true, Ready: true}
			}
		}
	}
	terminal := func(in *Input) { in.Terminal = true }
	deleted := func(in *Input) { in.Terminal, in.Pod.DeletionTimestamp = true, &metav1.Time{Time: epoch} }
	for _, tc := range []struct {
		name string
		in   Input
		want string
	}{
		{"new", input(always, "a"), "Pending a=ContainerCreating"},
		{"with init containers", input(always, "a").edit(withInit(corev1.Container{Name: "i"})), "Pending i=PodInitializing a=PodInitializing"},
		{"init running", input(always, "a").edit(withInit(corev1.Container{Name: "i"})).sandbox(running("i", 0)), "Pending i=running a=PodInitializing"},
		{"init failed for good", input(never, "a").edit(withInit(corev1.Container{Name: "i"})).sandbox(exited("i", 0, 2)), "Failed i=Error(2) a=PodInitializing"},
		{"sidecar not started holds the pod back", input(always, "a").edit(withInit(corev1.Container{Name: "s", RestartPolicy: &restartable})).
			sandbox(running("s", 0)), "Pending s=running a=PodInitializing"},
		{"running, not asked yet", input(always, "a").sandbox(running("a", 0)), "Running a=running"},
		{"running and ready", input(always, "a").sandbox(running("a", 0)).edit(healthy("a0")), "Running ready a=running"},
		{"one of two", input(always, "a", "b").sandbox(running("a", 0)).edit(healthy("a0")), "Pending a=running b=ContainerCreating"},
		{"created does not show", input(always, "a").sandbox(exited("a", 0, 1), runtime.Status{ID: "a1", Name: "a", Attempt: 1, State: runtime.Created}), "Running a=Error(1)"},
		{"restarted", input(always, "a").sandbox(exited("a", 0, 1), running("a", 1)).edit(healthy("a1")), "Running ready a=running<Error(1)#1"},
		{"back-off", input(always, "a").sandbox(exited("a", 2, 1)).edit(func(in *Input) {
			in.Waiting = map[string]plan.Waiting{"a": {Reason: "CrashLoopBackOff", Message: "m"}}
		}), "Running a=CrashLoopBackOff<Error(1)#2"},
		{"image cannot be pulled", input(always, "a").sandbox().edit(func(in *Input) {
			in.Waiting = map[string]plan.Waiting{"a": {Reason: "ErrImagePull"}}
		}), "Pending a=ErrImagePull"},
		{"a reason to wait does not hide a running container", input(always, "a").sandbox(running("a", 0)).edit(func(in *Input) {
			in.Waiting = map[string]plan.Waiting{"a": {Reason: "RunContainerError"}}
		}), "Running a=running"},
		{"could not start", input(never, "a").sandbox(runtime.Status{ID: "a0", Name: "a", State: runtime.Exited, Reason: "exec: no", ExitCode: 128}), "Failed a=StartError(128)"},
		{"out of memory", input(always, "a").sandbox(func() runtime.Status { s := exited("a", 0, 137); s.OOMKilled = true; return s }()), "Running a=OOMKilled(137)"},
		{"lost with its supervisor", input(always, "a").sandbox(func() runtime.Status { s := exited("a", 0, 137); s.Reason = "lost"; return s }()), "Running a=ContainerStatusUnknown(137)"},
		{"succeeded", input(never, "a").sandbox(exited("a", 0, 0)), "Succeeded a=Completed(0)"},
		{"one failed", input(never, "a", "b").sandbox(exited("a", 0, 0), exited("b", 0, 1)), "Failed a=Completed(0) b=Error(1)"},
		{"one still runs", input(never, "a", "b").sandbox(exited("a", 0, 1), running("b", 0)), "Running a=Error(1) b=running"},
		{"deleted before it ran", input(never, "a").edit(deleted), "Failed a=ContainerCreating"},
		{"deleted before its init containers ran", input(always, "a").edit(withInit(corev1.Container{Name: "i"})).edit(deleted), "Failed i=PodInitializing a=PodInitializing"},
		{"ended by deletion, exit 0", input(always, "a").sandbox(exited("a", 0, 0)).edit(terminal), "Succeeded a=Completed(0)"},
		{"ended by deletion, killed", input(always, "a").sandbox(exited("a", 0, 137)).edit(terminal), "Failed a=Error(137)"},
		{"rejected", input(always, "a").edit(func(in *Input) { in.Facts.Failure = &plan.Failure{Reason: "OutOfcpu"} }), "Failed/OutOfcpu"},
		{"past its deadline", input(always, "a").sandbox(exited("a", 0, 137)).edit(func(in *Input) {
			in.Facts.Failure = &plan.Failure{Reason: "DeadlineExceeded"}
		}), "Failed/DeadlineExceeded a=Error(137)"},
		{"a final phase stays without a sandbox", input(never, "a").edit(func(in *Input) {
			in.Previous = corev1.PodStatus{Phase: corev1.PodSucceeded, ContainerStatuses: []corev1.ContainerStatus{{Name: "a",
				State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed"}}}}}
		}), "Succeeded a=Completed(0)"},
		{"lost in a reboot", input(always, "a").edit(func(in *Input) {
			in.Previous = corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "a", ContainerID: "x",
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}
		}), "Running a=ContainerCreating<ContainerStatusUnknown(137)"},
		{"being killed for a probe is not ready", input(always, "a").sandbox(running("a", 0)).edit(healthy("a0")).edit(func(in *Input) {
			in.Facts.Kills["a0"] = &plan.Kill{}
		}), "Running a=running"},
		{"readiness gate missing", input(always, "a").sandbox(running("a", 0)).edit(healthy("a0")).edit(func(in *Input) {
			in.Pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "x/y"}}
		}), "Running a=running"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			st := Compute(tc.in)
			if got := brief(st); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
			tc.in.Previous = st
			if again := Compute(tc.in); !same(&st, &again) {
				t.Errorf("computed again it is %q", brief(again))
			}
		})
	}
}

func TestConditionsKeepTimesAndOwners(t *testing.T) {
	in := input(corev1.RestartPolicyAlways, "a").sandbox(running("a", 0))
	in.Facts.Health["a0"] = plan.Health{Started: true, Ready: true}
	in.Pod.Status.Conditions = []corev1.PodCondition{{Type: "mine/own", Status: corev1.ConditionTrue}}
	in.Previous = Compute(in)
	in.Now = epoch.Add(time.Hour)
	in.Facts.Health["a0"] = plan.Health{Started: true}
	st := Compute(in)
	for _, c := range st.Conditions {
		changed := c.LastTransitionTime.Time.Equal(in.Now)
		if want := c.Type == corev1.PodReady || c.Type == corev1.ContainersReady; changed != want && c.Type != "mine/own" {
			t.Errorf("%s changed: %v, want %v", c.Type, changed, want)
		}
		if c.ObservedGeneration != 3 && c.Type != "mine/own" {
			t.Errorf("%s observed generation %d", c.Type, c.ObservedGeneration)
		}
	}
	ready := condition(st.Conditions, corev1.PodReady)
	if ready.Reason != "ContainersNotReady" || ready.Message != "containers with unready status: [a]" {
		t.Errorf("Ready is %+v", ready)
	}
	if condition(st.Conditions, "mine/own") == nil {
		t.Error("a condition of another owner was dropped")
	}
	if st.PodIP != "10.200.0.9" || st.HostIP != "10.0.0.1" || st.QOSClass != corev1.PodQOSBestEffort || st.StartTime == nil {
		t.Errorf("addresses or class: %+v", st)
	}
}

func TestPatchNamesWhatIsEmpty(t *testing.T) {
	stored := corev1.PodStatus{Reason: "Old", PodIPs: []corev1.PodIP{{IP: "1.1.1.1"}}}
	st := corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "2.2.2.2", PodIPs: []corev1.PodIP{{IP: "2.2.2.2"}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}, {Type: "other/one"}}}
	data, err := patch("uid-1", &stored, &st)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, part := range []string{`"uid":"uid-1"`, `"reason":null`, `"podIPs":[{"$patch":"replace"},{"ip":"2.2.2.2"}]`, `"containerStatuses":null`} {
		if !strings.Contains(text, part) {
			t.Errorf("no %s in %s", part, text)
		}
	}
	if strings.Contains(text, "other/one") {
		t.Errorf("another owner's condition in %s", text)
	}
}
