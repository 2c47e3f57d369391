package plan

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/nodeagent/runtime"
)

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// scene is a pod with what is known of it, changed step by step by a test case.
type scene struct {
	Input
	status runtime.PodStatus
}

func newScene(policy corev1.RestartPolicy, containers ...string) *scene {
	s := &scene{Input: Input{
		Pod:   &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "u"}, Spec: corev1.PodSpec{RestartPolicy: policy}},
		Facts: &Facts{Containers: map[string]*Container{}, Kills: map[string]*Kill{}, Hooks: map[string]Hook{}, Health: map[string]Health{}, Removing: map[string]bool{}},
		Now:   epoch, Settings: DefaultSettings(),
	}}
	for _, c := range containers {
		s.Pod.Spec.Containers = append(s.Pod.Spec.Containers, corev1.Container{Name: c})
	}
	return s
}

// up gives the pod a sandbox and volumes.
func (s *scene) up() *scene {
	s.status.Alive, s.status.CreatedAt = true, epoch.Add(-time.Hour)
	s.Observed = &s.status
	s.Facts.Volumes.Done = true
	return s
}

func (s *scene) add(c runtime.Status) *scene {
	if c.ID == "" {
		c.ID = fmt.Sprintf("%s-%d", c.Name, c.Attempt)
	}
	if c.CreatedAt.IsZero() {
		c.CreatedAt = epoch.Add(-time.Minute)
	}
	if c.StartedAt.IsZero() {
		c.StartedAt = c.CreatedAt
	}
	s.status.Containers = append(s.status.Containers, c)
	return s
}

func (s *scene) running(name string, attempt int) *scene {
	s.add(runtime.Status{Name: name, Attempt: attempt, State: runtime.Running})
	s.Facts.Health[fmt.Sprintf("%s-%d", name, attempt)] = Health{Started: true, Ready: true}
	return s
}

func (s *scene) exited(name string, attempt, code int) *scene {
	return s.add(runtime.Status{Name: name, Attempt: attempt, State: runtime.Exited, ExitCode: code, FinishedAt: epoch})
}

func (s *scene) with(f func(*scene)) *scene { f(s); return s }

// text is a plan as a test case writes it.
func text(p Plan) string {
	var out []string
	for _, a := range p.Actions {
		switch a := a.(type) {
		case StartContainer:
			out = append(out, fmt.Sprintf("start %s#%d", a.Container.Name, a.Attempt))
		case BeginKill:
			out = append(out, fmt.Sprintf("kill %s in %s", a.ID, a.Grace))
		case Signal:
			name := map[syscall.Signal]string{syscall.SIGTERM: "TERM", syscall.SIGKILL: "KILL"}[a.Signal]
			out = append(out, name+" "+a.ID)
		case RemoveContainer:
			out = append(out, "remove "+a.ID)
		case RunPostStart:
			out = append(out, "poststart "+a.ID)
		case NoteCrashBackOff:
			out = append(out, "note "+a.ID)
		case FailPod:
			out = append(out, "fail "+a.Failure.Reason)
		default:
			out = append(out, strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", a), "plan.")))
		}
	}
	if !p.Wake.IsZero() {
		out = append(out, "wake +"+p.Wake.Sub(epoch).String())
	}
	if p.Terminal {
		out = append(out, "terminal")
	}
	if p.Done {
		out = append(out, "done")
	}
	return strings.Join(out, ", ")
}

func TestNext(t *testing.T) {
	always, onFailure, never := corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	restartable := corev1.ContainerRestartPolicyAlways
	withInit := func(names ...string) func(*scene) {
		return func(s *scene) {
			for _, n := range names {
				c := corev1.Container{Name: n}
				if strings.HasPrefix(n, "side") {
					c.RestartPolicy = &restartable
				}
				s.Pod.Spec.InitContainers = append(s.Pod.Spec.InitContainers, c)
			}
		}
	}
	deleted := func(grace int64) func(*scene) {
		return func(s *scene) {
			s.Pod.DeletionTimestamp, s.Pod.DeletionGracePeriodSeconds = &metav1.Time{Time: epoch}, &grace
		}
	}
	reported := func(s *scene) { s.Facts.Reported = true }
	for _, tc := range []struct {
		name string
		in   *scene
		want string
	}{
		{"a new pod gets sandbox and volumes at once", newScene(always, "a"), "makesandbox, mountvolumes"},
		{"no sandbox while the network is not ready", newScene(always, "a").with(func(s *scene) { s.Settings.NetworkReady = false }), "mountvolumes"},
		{"the host's network is always ready", newScene(always, "a").with(func(s *scene) {
			s.Settings.NetworkReady, s.Pod.Spec.HostNetwork = false, true
		}), "makesandbox, mountvolumes"},
		{"a failed sandbox waits", newScene(always, "a").with(func(s *scene) {
			s.Facts.Sandbox.Retry, s.Facts.Volumes.Done = epoch.Add(time.Second), true
		}), "wake +1s"},
		{"containers start together", newScene(always, "a", "b").up(), "start a#0, start b#0"},
		{"nothing to do for a running pod", newScene(always, "a").up().running("a", 0), ""},
		{"a start under way is not repeated", newScene(always, "a").up().with(func(s *scene) { s.Facts.Containers["a"] = &Container{Busy: true} }), ""},
		{"no probe or hook before the process runs", newScene(always, "a").up().add(runtime.Status{Name: "a", State: runtime.Created}), ""},

		{"init containers go one by one", newScene(always, "a").with(withInit("i", "j")).up(), "start i#0"},
		{"the second after the first", newScene(always, "a").with(withInit("i", "j")).up().exited("i", 0, 0), "start j#0"},
		{"containers after the last", newScene(always, "a").with(withInit("i")).up().exited("i", 0, 0), "start a#0"},
		{"a failed init container is started again", newScene(always, "a").with(withInit("i")).up().exited("i", 0, 1), "start i#1"},
		{"with policy Never it fails the pod", newScene(never, "a").with(withInit("i")).up().exited("i", 0, 1), "terminal"},
		{"a sidecar holds the next back until it has started", newScene(always, "a").with(withInit("side", "i")).up().
			add(runtime.Status{Name: "side", State: runtime.Running}), ""},
		{"a started sidecar lets it go on", newScene(always, "a").with(withInit("side", "i")).up().running("side", 0), "start i#0"},
		{"a sidecar that ends is started again, containers stay", newScene(never, "a").with(withInit("side")).up().exited("side", 0, 0).running("a", 0), "start side#1"},

		{"restart at once the first time", newScene(always, "a").up().exited("a", 0, 1), "start a#1"},
		{"the second restart waits", newScene(always, "a").up().exited("a", 1, 1).with(func(s *scene) {
			s.Facts.Containers["a"] = &Container{Delay: time.Second, Last: epoch.Add(-time.Second)}
		}), "note a-1, wake +1s"},
		{"after a restart of the agent the count stands for the delay", newScene(always, "a").up().exited("a", 3, 1), "note a-3, wake +4s"},
		{"the delay is bounded", newScene(always, "a").up().exited("a", 30, 1), "note a-30, wake +1m0s"},
		{"a long run is forgiven", newScene(always, "a").up().exited("a", 3, 1).with(func(s *scene) {
			s.Facts.Containers["a"] = &Container{Delay: time.Minute, Last: epoch.Add(-11 * time.Minute)}
		}), "start a#4"},
		{"exit 0 ends with OnFailure", newScene(onFailure, "a").up().exited("a", 0, 0), "terminal"},
		{"exit 1 does not", newScene(onFailure, "a").up().exited("a", 0, 1), "start a#1"},
		{"exit 1 ends with Never", newScene(never, "a").up().exited("a", 0, 1), "terminal"},
		{"one of two still runs", newScene(never, "a", "b").up().exited("a", 0, 1).running("b", 0), ""},
		{"old instances go, the previous one stays", newScene(always, "a").up().exited("a", 0, 1).exited("a", 1, 1).running("a", 2), "remove a-0"},

		{"a container that is not live is killed", newScene(always, "a").up().running("a", 0).with(func(s *scene) {
			s.Facts.Health["a-0"] = Health{Started: true, NotLive: true}
		}), "kill a-0 in 30s"},
		{"with the probe's own grace", newScene(always, "a").up().running("a", 0).with(func(s *scene) {
			s.Pod.Spec.Containers[0].StartupProbe = &corev1.Probe{TerminationGracePeriodSeconds: new(int64(5))}
			s.Facts.Health["a-0"] = Health{StartupFailed: true}
		}), "kill a-0 in 5s"},
		{"killed for its probe it restarts although it exits 0", newScene(onFailure, "a").up().exited("a", 0, 0).with(func(s *scene) {
			s.Facts.Kills["a-0"] = &Kill{Restart: true}
		}), "start a#1"},
		{"postStart runs once the container does", newScene(always, "a").up().running("a", 0).with(func(s *scene) {
			s.Pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{}}
		}), "poststart a-0"},
		{"a failed postStart kills", newScene(always, "a").up().running("a", 0).with(func(s *scene) {
			s.Pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{}}
			s.Facts.Hooks["a-0"] = HookFailed
		}), "kill a-0 in 30s"},

		{"the deadline is watched", newScene(always, "a").up().running("a", 0).with(func(s *scene) {
			s.Pod.Spec.ActiveDeadlineSeconds, s.Pod.Status.StartTime = new(int64(60)), &metav1.Time{Time: epoch.Add(-50 * time.Second)}
		}), "wake +10s"},
		{"and then fails the pod", newScene(always, "a").up().running("a", 0).with(func(s *scene) {
			s.Pod.Spec.ActiveDeadlineSeconds, s.Pod.Status.StartTime = new(int64(60)), &metav1.Time{Time: epoch.Add(-60 * time.Second)}
		}), "fail DeadlineExceeded"},

		{"deletion kills with its grace", newScene(always, "a").up().running("a", 0).with(deleted(7)), "kill a-0 in 7s"},
		{"a forced one still asks first", newScene(always, "a").up().running("a", 0).with(deleted(0)), "kill a-0 in 1s"},
		{"SIGTERM comes after the hook", newScene(always, "a").up().running("a", 0).with(deleted(7)).with(func(s *scene) {
			s.Facts.Kills["a-0"] = &Kill{Began: epoch, Grace: 7 * time.Second, PreStop: true}
		}), "wake +7s"},
		{"or at once", newScene(always, "a").up().running("a", 0).with(deleted(7)).with(func(s *scene) {
			s.Facts.Kills["a-0"] = &Kill{Began: epoch, Grace: 7 * time.Second}
		}), "TERM a-0"},
		{"SIGKILL when the grace is over", newScene(always, "a").up().running("a", 0).with(deleted(7)).with(func(s *scene) {
			s.Facts.Kills["a-0"] = &Kill{Began: epoch.Add(-8 * time.Second), Grace: 7 * time.Second, Term: epoch.Add(-8 * time.Second)}
		}), "KILL a-0"},
		{"but two seconds after SIGTERM at the earliest", newScene(always, "a").up().running("a", 0).with(deleted(7)).with(func(s *scene) {
			s.Facts.Kills["a-0"] = &Kill{Began: epoch.Add(-8 * time.Second), Grace: 7 * time.Second, Term: epoch}
		}), "wake +2s"},
		{"a shorter second deletion counts", newScene(always, "a").up().running("a", 0).with(deleted(1)).with(func(s *scene) {
			s.Facts.Kills["a-0"] = &Kill{Began: epoch.Add(-5 * time.Second), Grace: 30 * time.Second, Term: epoch.Add(-5 * time.Second)}
		}), "KILL a-0"},
		{"sidecars go after containers", newScene(always, "a").with(withInit("side")).up().running("side", 0).running("a", 0).with(deleted(7)), "kill a-0 in 7s"},
		{"the last one first", newScene(always, "a").with(withInit("side1", "side2")).up().running("side1", 0).running("side2", 0).exited("a", 0, 0).with(deleted(7)), "kill side2-0 in 7s"},
		{"a start under way is awaited", newScene(always, "a").up().with(deleted(7)).with(func(s *scene) { s.Facts.Containers["a"] = &Container{Busy: true} }), ""},
		{"nothing starts in a pod that ends", newScene(always, "a").with(deleted(7)), "terminal"},
		{"the sandbox waits for the final status", newScene(always, "a").up().exited("a", 0, 0).with(deleted(7)), "terminal"},
		{"then it goes", newScene(always, "a").up().exited("a", 0, 0).with(deleted(7)).with(reported), "cleanup, terminal"},
		{"then the object", newScene(always, "a").with(deleted(7)).with(reported), "deletepod, terminal"},
		{"once", newScene(always, "a").with(deleted(7)).with(reported).with(func(s *scene) { s.Facts.Deleting = true }), "terminal"},
		{"a finished pod keeps its object", newScene(never, "a").with(reported).with(func(s *scene) { s.Pod.Status.Phase = corev1.PodSucceeded }), "terminal"},
		{"a pod gone from the API needs no status", newScene(always, "a").up().exited("a", 0, 0).with(func(s *scene) { s.Gone = true }), "cleanup, terminal"},
		{"and is done when nothing is left", newScene(always, "a").with(func(s *scene) { s.Gone = true }), "terminal, done"},
		{"a rejected pod never starts", newScene(always, "a").with(func(s *scene) { s.Facts.Failure = &Failure{Reason: "OutOfcpu"} }), "terminal"},

		{"a dead sandbox is made again", newScene(always, "a").up().exited("a", 0, 137).with(func(s *scene) { s.status.Alive = false }), "makesandbox"},
		{"unless nothing would run in it", newScene(never, "a").up().exited("a", 0, 137).with(func(s *scene) { s.status.Alive = false }), "terminal"},
		{"init containers run again in a new sandbox", newScene(always, "a").with(withInit("i")).up().exited("i", 0, 0).exited("a", 0, 137).with(func(s *scene) {
			s.status.CreatedAt = epoch
		}), "start i#1"},
		{"after a reboot the count goes on", newScene(always, "a").up().with(func(s *scene) {
			s.Pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a", ContainerID: "hardway://x", RestartCount: 2,
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		}), "start a#3"},
		{"after a reboot policy Never ends", newScene(never, "a").with(func(s *scene) {
			s.Pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a", ContainerID: "hardway://x",
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		}), "terminal"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := text(Next(tc.in.Input))
			if got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
			if again := text(Next(tc.in.Input)); again != got {
				t.Errorf("asked again it says %q", again)
			}
		})
	}
}

// TestCrashLoop drives a crashing container through its restarts and checks the delays between them.
func TestCrashLoop(t *testing.T) {
	s := newScene(corev1.RestartPolicyAlways, "a").up()
	s.Settings.MaxRestartDelay = 8 * time.Second
	var delays []time.Duration
	finished := s.Now
	for attempt := range 8 {
		p := Next(s.Input)
		for !slices.ContainsFunc(p.Actions, func(a Action) bool { _, ok := a.(StartContainer); return ok }) {
			if p.Wake.IsZero() {
				t.Fatalf("attempt %d: no start and nothing to wait for: %s", attempt, text(p))
			}
			s.Now = p.Wake
			s.Facts.Containers["a"].Noted = fmt.Sprintf("a-%d", attempt-1)
			p = Next(s.Input)
		}
		delays = append(delays, s.Now.Sub(finished))
		start := p.Actions[0].(StartContainer)
		s.Facts.Containers["a"] = &Container{Delay: start.Delay, Last: s.Now}
		s.Now = s.Now.Add(time.Second)
		finished = s.Now
		s.status.Containers = nil
		s.add(runtime.Status{Name: "a", Attempt: start.Attempt, State: runtime.Exited, ExitCode: 1, FinishedAt: finished})
	}
	want := []time.Duration{0, 0, 1, 2, 4, 8, 8, 8}
	for i := range want {
		if delays[i] != want[i]*time.Second {
			t.Fatalf("delays %v, want %v seconds", delays, want)
		}
	}
}

func TestShouldRestart(t *testing.T) {
	never, always := corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyAlways
	in := corev1.ContainerRestartRule{Action: corev1.ContainerRestartRuleActionRestart,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}}}
	for _, tc := range []struct {
		pod       corev1.RestartPolicy
		container *corev1.ContainerRestartPolicy
		rules     []corev1.ContainerRestartRule
		code      int
		want      bool
	}{
		{corev1.RestartPolicyAlways, nil, nil, 0, true},
		{corev1.RestartPolicyOnFailure, nil, nil, 0, false},
		{corev1.RestartPolicyOnFailure, nil, nil, 1, true},
		{corev1.RestartPolicyNever, nil, nil, 1, false},
		{corev1.RestartPolicyNever, &always, nil, 0, true},
		{corev1.RestartPolicyAlways, &never, nil, 1, false},
		{corev1.RestartPolicyNever, &never, []corev1.ContainerRestartRule{in}, 42, true},
		{corev1.RestartPolicyNever, &never, []corev1.ContainerRestartRule{in}, 41, false},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: tc.pod}}
		c := &corev1.Container{RestartPolicy: tc.container, RestartPolicyRules: tc.rules}
		if got := ShouldRestart(pod, c, tc.code); got != tc.want {
			t.Errorf("%+v: got %v", tc, got)
		}
	}
}
