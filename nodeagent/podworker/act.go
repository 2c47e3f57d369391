package podworker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/nodeagent/plan"
	"hardway/nodeagent/podworker/admit"
	"hardway/nodeagent/podworker/compose"
	"hardway/nodeagent/podworker/hook"
	"hardway/nodeagent/runtime"
)

// signalTimeout bounds a call that should take no time.
const signalTimeout = 10 * time.Second

// act begins one action of the plan. It marks in the facts what is under way and returns at once.
func (w *worker) act(ctx context.Context, pod *corev1.Pod, a plan.Action) {
	switch a := a.(type) {
	case plan.MakeSandbox:
		w.makeSandbox(pod)
	case plan.MountVolumes:
		w.mountVolumes(pod)
	case plan.StartContainer:
		w.startContainer(pod, a)
	case plan.NotePullBackOff:
		w.notePull(pod, a)
	case plan.NoteCrashBackOff:
		w.remembered(a.Container.Name).Noted = a.ID
		w.Note(pod, a.Container, corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s", a.Container.Name, fullName(pod))
	case plan.RunPostStart:
		w.postStart(pod, a)
	case plan.BeginKill:
		w.beginKill(ctx, pod, a)
	case plan.Signal:
		w.signal(ctx, a)
	case plan.RemoveContainer:
		w.removeContainer(ctx, a)
	case plan.ResizeContainers:
		w.resizeContainers(pod)
	case plan.FailPod:
		w.facts.Failure = &a.Failure
		w.Note(pod, nil, corev1.EventTypeNormal, a.Failure.Reason, "%s", a.Failure.Message)
		w.poke()
	case plan.CleanUp:
		w.cleanUp(ctx, pod)
	case plan.DeletePod:
		w.deletePod(ctx, pod)
	}
}

// remembered returns what is kept about a container between its instances.
func (w *worker) remembered(name string) *plan.Container {
	c := w.facts.Containers[name]
	if c == nil {
		c = &plan.Container{}
		w.facts.Containers[name] = c
	}
	return c
}

func (w *worker) makeSandbox(pod *corev1.Pod) {
	if w.seen != nil && w.facts.Sandbox.Failures == 0 {
		w.Note(pod, nil, corev1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	}
	w.facts.Sandbox.Busy = true
	w.task(w.starting, func(ctx context.Context) func() {
		err := w.ensureSandbox(ctx, pod)
		return func() {
			w.settle(&w.facts.Sandbox, err)
			if err != nil && w.facts.Ended.IsZero() {
				w.Note(pod, nil, corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: %v", err)
			}
		}
	})
}

func (w *worker) ensureSandbox(ctx context.Context, pod *corev1.Pod) error {
	if err := admit.Unsupported(pod); err != nil {
		return err
	}
	if err := w.checkRuntimeClass(ctx, pod); err != nil {
		return err
	}
	cfg, err := compose.PodConfig(pod, w.Node())
	if err != nil {
		return err
	}
	release, err := w.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	_, err = w.Runtime.EnsurePod(ctx, cfg)
	return err
}

// checkRuntimeClass refuses a pod that wants another runtime than the one there is.
func (w *worker) checkRuntimeClass(ctx context.Context, pod *corev1.Pod) error {
	if pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName == "" {
		return nil
	}
	handler, err := w.Handler(ctx, *pod.Spec.RuntimeClassName)
	if err != nil {
		return fmt.Errorf("runtime class %s: %w", *pod.Spec.RuntimeClassName, err)
	}
	if !slices.Contains(Handlers, handler) {
		return fmt.Errorf("runtime class %s: no runtime for handler %q is configured on this node, which has %s",
			*pod.Spec.RuntimeClassName, handler, strings.Join(Handlers, " and "))
	}
	return nil
}

// Handlers are the names by which a RuntimeClass may mean this node's runtime.
var Handlers = []string{"runc", "hardway"}

// settle notes how a step went.
func (w *worker) settle(s *plan.Step, err error) {
	s.Busy, s.Done = false, err == nil
	if err == nil {
		s.Failures, s.Retry = 0, time.Time{}
		return
	}
	s.Failures++
	s.Retry = time.Now().Add(backOff(s.Failures))
}

func (w *worker) mountVolumes(pod *corev1.Pod) {
	w.facts.Volumes.Busy, w.facts.Mounted = true, true
	w.task(w.starting, func(ctx context.Context) func() {
		paths, err := w.Volumes.SetUp(ctx, pod)
		return func() {
			w.paths = paths
			w.settle(&w.facts.Volumes, err)
			if err != nil && w.facts.Ended.IsZero() {
				w.Note(pod, nil, corev1.EventTypeWarning, "FailedMount", "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
			}
		}
	})
}

// refresh brings volumes up to date after something they show has changed, and lets failed starts try again at once.
func (w *worker) refresh() {
	for _, c := range w.facts.Containers {
		c.Retry = time.Time{}
	}
	v := &w.facts.Volumes
	v.Retry = time.Time{}
	if !v.Done || v.Busy || !w.facts.Ended.IsZero() {
		return
	}
	w.mu.Lock()
	pod := w.pod
	w.mu.Unlock()
	v.Busy = true
	w.task(w.starting, func(ctx context.Context) func() {
		_, err := w.Volumes.SetUp(ctx, pod)
		return func() {
			v.Busy = false
			if err != nil && w.facts.Ended.IsZero() {
				w.Note(pod, nil, corev1.EventTypeWarning, "FailedMount", "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
			}
		}
	})
}

func (w *worker) notePull(pod *corev1.Pod, a plan.NotePullBackOff) {
	c := w.remembered(a.Container.Name)
	c.NoteAt = time.Time{}
	msg := fmt.Sprintf("Back-off pulling image %q", a.Container.Image)
	w.Note(pod, a.Container, corev1.EventTypeNormal, "BackOff", "%s", msg)
	w.Note(pod, a.Container, corev1.EventTypeWarning, "Failed", "Error: ImagePullBackOff")
	c.Waiting = plan.Waiting{Reason: "ImagePullBackOff", Message: msg + ": " + c.Waiting.Reason + ": " + c.Waiting.Message}
	w.poke()
}

func (w *worker) postStart(pod *corev1.Pod, a plan.RunPostStart) {
	w.facts.Hooks[a.ID] = plan.HookRunning
	t := w.target(pod, a.Container, a.ID)
	w.task(w.starting, func(ctx context.Context) func() {
		err := hook.Run(ctx, a.Container.Lifecycle.PostStart, t, w.Exec)
		return func() {
			w.facts.Hooks[a.ID] = plan.HookDone
			if err == nil || !w.facts.Ended.IsZero() {
				return
			}
			// The message may hold a secret that the hook printed: it goes to the log only.
			w.log.Warn("postStart hook failed", zap.String("container", a.Container.Name), zap.Error(err))
			w.facts.Hooks[a.ID] = plan.HookFailed
			w.Note(pod, a.Container, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
		}
	})
}

func (w *worker) target(pod *corev1.Pod, c *corev1.Container, id string) hook.Target {
	t := hook.Target{Pod: pod, Container: c, ID: id}
	w.mu.Lock()
	seen := w.seen
	w.mu.Unlock()
	if seen != nil {
		t.IP = w.address(pod, seen)
	}
	return t
}

func (w *worker) beginKill(ctx context.Context, pod *corev1.Pod, a plan.BeginKill) {
	k := &plan.Kill{Began: time.Now(), Grace: a.Grace, Restart: a.Restart, Resize: a.Resize, Waiting: a.Waiting}
	w.facts.Kills[a.ID] = k
	w.Note(pod, a.Container, corev1.EventTypeNormal, "Killing", "%s", a.Message)
	w.poke()
	if a.Container.Lifecycle == nil || a.Container.Lifecycle.PreStop == nil {
		return
	}
	k.PreStop = true
	t := w.target(pod, a.Container, a.ID)
	w.task(ctx, func(ctx context.Context) func() {
		ctx, cancel := context.WithTimeout(ctx, a.Grace)
		defer cancel()
		err := hook.Run(ctx, a.Container.Lifecycle.PreStop, t, w.Exec)
		return func() {
			k.PreStop = false
			if err != nil {
				w.log.Warn("preStop hook failed", zap.String("container", a.Container.Name), zap.Error(err))
				w.Note(pod, a.Container, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
			}
		}
	})
}

func (w *worker) signal(ctx context.Context, a plan.Signal) {
	k := w.facts.Kills[a.ID]
	sig := a.Signal
	switch sig {
	case syscall.SIGTERM:
		k.Term = time.Now()
		sig = w.stopSignal(a.ID)
	case syscall.SIGKILL:
		k.Kill = time.Now()
	}
	w.poke() // the plan has a next date now
	w.task(ctx, func(ctx context.Context) func() {
		ctx, cancel := context.WithTimeout(ctx, signalTimeout)
		defer cancel()
		if err := w.Runtime.SignalContainer(ctx, w.uid, a.ID, sig); err != nil {
			w.log.Warn("container not signalled", zap.String("id", a.ID), zap.Stringer("signal", sig), zap.Error(err))
		}
		return nil
	})
}

// stopSignal is what asks a container to stop: its own choice, else its image's, else SIGTERM.
func (w *worker) stopSignal(id string) syscall.Signal {
	w.mu.Lock()
	pod, seen := w.pod, w.seen
	w.mu.Unlock()
	if seen == nil {
		return syscall.SIGTERM
	}
	for _, c := range seen.Containers {
		if c.ID != id {
			continue
		}
		if spec := FindContainer(pod, c.Name); spec != nil {
			if sig, err := compose.StopSignal(spec); err == nil && sig != 0 {
				return sig
			}
		}
		if img, ok := w.Image(c.Image); ok {
			if sig, err := runtime.ParseSignal(img.StopSignal); err == nil {
				return sig
			}
		}
	}
	return syscall.SIGTERM
}

func (w *worker) removeContainer(ctx context.Context, a plan.RemoveContainer) {
	w.facts.Removing[a.ID] = true
	w.task(ctx, func(ctx context.Context) func() {
		err := w.Runtime.RemoveContainer(ctx, w.uid, a.ID)
		if err == nil {
			message := compose.MessageFile(w.Volumes.PodDir(w.uid), a.Container, a.Attempt)
			err = errors.Join(removeLog(a.Log), os.RemoveAll(w.link(a.Container, a.ID)), os.RemoveAll(message))
		}
		if err != nil {
			w.log.Warn("old container is left behind", zap.String("container", a.Container), zap.Error(err))
		}
		return nil
	})
}

// removeLog removes a log with its rotated files.
func removeLog(path string) error {
	if path == "" {
		return nil
	}
	names, err := filepath.Glob(path + "*")
	errs := []error{err}
	for _, n := range names {
		errs = append(errs, os.Remove(n))
	}
	return errors.Join(errs...)
}

func (w *worker) cleanUp(ctx context.Context, pod *corev1.Pod) {
	w.facts.Cleanup.Busy = true
	w.task(ctx, func(ctx context.Context) func() {
		err := w.Runtime.RemovePod(ctx, w.uid)
		if err == nil {
			err = errors.Join(w.Devices.Release(w.uid), w.Volumes.TearDown(ctx, w.uid))
		}
		return func() {
			w.settle(&w.facts.Cleanup, err)
			if err != nil {
				w.log.Warn("pod not cleared away", zap.Error(err))
				if w.name != "" {
					w.Note(pod, nil, corev1.EventTypeWarning, "FailedKillPod", "error killing pod: %v", err)
				}
				return
			}
			w.facts.Mounted = false
		}
	})
}

// deletePod removes the object, trying again for as long as it takes: nothing is left of the pod but its name.
func (w *worker) deletePod(ctx context.Context, pod *corev1.Pod) {
	w.facts.Deleting = true
	w.task(ctx, func(ctx context.Context) func() {
		for n := 1; ; n++ {
			err := w.Delete(ctx, pod)
			if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
				return nil
			}
			w.log.Warn("pod not deleted", zap.Error(err))
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(backOff(n)):
			}
		}
	})
}

func fullName(pod *corev1.Pod) string {
	return pod.Name + "_" + pod.Namespace + "(" + string(pod.UID) + ")"
}
