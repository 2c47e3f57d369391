package podworker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"hardway/nodeagent/plan"
	"hardway/nodeagent/podworker/compose"
	"hardway/nodeagent/podworker/pull"
	"hardway/nodeagent/runtime"
)

// notStarted is a container that could not be started: what the API shows, and when to try again.
type notStarted struct {
	plan.Waiting
	retry  time.Duration // 0: by the number of failures
	noteIn time.Duration // a failed pull shows as ImagePullBackOff after this; 0: it is not one
	exists bool          // the runtime has a record of the instance: its restart is a crash's
}

func (e *notStarted) Error() string { return e.Reason + ": " + e.Message }

// startContainer begins to start one instance.
func (w *worker) startContainer(pod *corev1.Pod, a plan.StartContainer) {
	c := w.remembered(a.Container.Name)
	c.Busy, c.Retry = true, time.Time{}
	paths := w.paths
	w.task(w.starting, func(ctx context.Context) func() {
		id, err := w.launch(ctx, pod, a, paths)
		return func() {
			if id != "" {
				w.facts.Resize.Enforced[id] = *a.Container.Resources.DeepCopy()
			}
			w.launched(ctx, pod, a, err)
		}
	})
}

// launched notes how a start went.
func (w *worker) launched(ctx context.Context, pod *corev1.Pod, a plan.StartContainer, err error) {
	c := w.remembered(a.Container.Name)
	c.Busy, c.NoteAt = false, time.Time{}
	var failed *notStarted
	switch {
	case err == nil:
		c.Waiting, c.Failures, c.Delay, c.Last = plan.Waiting{}, 0, a.Delay, time.Now()
		return
	case ctx.Err() != nil:
		return
	case !errors.As(err, &failed):
		failed = &notStarted{Waiting: plan.Waiting{Reason: "CreateContainerError", Message: err.Error()}}
	}
	w.Note(pod, a.Container, corev1.EventTypeWarning, "Failed", "Error: %v", failed.event())
	c.Waiting = failed.Waiting
	if failed.exists {
		c.Delay, c.Last = a.Delay, time.Now()
		return
	}
	c.Failures++
	if failed.retry == 0 {
		failed.retry = max(backOff(c.Failures), time.Second)
	}
	c.Retry = time.Now().Add(failed.retry)
	if failed.noteIn > 0 {
		c.NoteAt = time.Now().Add(failed.noteIn)
	}
}

// event is the text of the Failed event: the reason alone for images, whose details have been told already.
func (e *notStarted) event() string {
	switch e.Reason {
	case "ErrImagePull", "ErrImageNeverPull", "InvalidImageName":
		return e.Reason
	default:
		return e.Message
	}
}

// launch does all that it takes: image, configuration, files, runtime.
func (w *worker) launch(ctx context.Context, pod *corev1.Pod, a plan.StartContainer, paths map[string]string) (id string, err error) {
	img, err := w.image(ctx, pod, a.Container)
	if err != nil {
		return "", err
	}
	observed, ok, err := w.Runtime.Pod(ctx, w.uid)
	if err != nil || !ok {
		return "", fmt.Errorf("sandbox of the pod is gone: %w", err)
	}
	node := w.Node()
	cp := compose.Pod{
		Pod: pod, IPs: w.addresses(pod, &observed), Dir: w.Volumes.PodDir(w.uid), Volumes: paths,
		Services: slices.Collect(w.Services(pod.Namespace)), Objects: w.Objects,
	}
	cfg, err := compose.Container(ctx, cp, a.Container, a.Attempt, img.Image, node)
	if err == nil {
		err = w.addDevices(ctx, pod, a.Container, &cfg)
	}
	if err == nil {
		cfg.Target, err = target(pod, a.Container.Name, &observed)
	}
	if err == nil {
		err = w.writeFiles(pod, node, cp.IPs, a.Container.Name, a.Attempt)
	}
	if err != nil {
		return "", &notStarted{Waiting: plan.Waiting{Reason: "CreateContainerConfigError", Message: err.Error()}}
	}
	release, err := w.slot(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	st, err := w.Runtime.StartContainer(ctx, w.uid, cfg)
	if err != nil {
		message := err.Error()
		if st.Reason != "" {
			message = st.Reason
		}
		reason := "CreateContainerError"
		if st.ID != "" {
			reason = "RunContainerError"
		}
		return "", &notStarted{Waiting: plan.Waiting{Reason: reason, Message: message}, exists: st.ID != ""}
	}
	w.Note(pod, a.Container, corev1.EventTypeNormal, "Created", "Container created")
	w.Note(pod, a.Container, corev1.EventTypeNormal, "Started", "Container started")
	w.linkLog(a.Container.Name, cfg.ID, cfg.LogPath)
	return cfg.ID, nil
}

// addDevices adds what device plugins give the container.
func (w *worker) addDevices(ctx context.Context, pod *corev1.Pod, c *corev1.Container, cfg *runtime.ContainerConfig) error {
	given, err := w.Devices.Allocate(ctx, pod, c)
	if err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(given.Env)) {
		cfg.Env = append(cfg.Env, k+"="+given.Env[k])
	}
	for _, m := range given.Mounts {
		cfg.Mounts = append(cfg.Mounts, runtime.Mount{Source: m.HostPath, Target: m.ContainerPath, ReadOnly: m.ReadOnly})
	}
	for _, d := range given.Devices {
		cfg.Devices = append(cfg.Devices, runtime.Device{Host: d.HostPath, Path: d.ContainerPath, Access: d.Permissions})
	}
	return nil
}

// target is the id of the running container whose processes an ephemeral container is to see; "" if it names none.
func target(pod *corev1.Pod, name string, observed *runtime.PodStatus) (string, error) {
	for i := range pod.Spec.EphemeralContainers {
		e := &pod.Spec.EphemeralContainers[i]
		if e.Name != name || e.TargetContainerName == "" {
			continue
		}
		for _, c := range observed.Containers {
			if c.Name == e.TargetContainerName && c.State == runtime.Running {
				return c.ID, nil
			}
		}
		return "", fmt.Errorf("target container %q is not running", e.TargetContainerName)
	}
	return "", nil
}

// image makes the container's image present.
func (w *worker) image(ctx context.Context, pod *corev1.Pod, c *corev1.Container) (pull.Image, error) {
	auth, err := w.keychain(ctx, pod)
	if err != nil {
		return pull.Image{}, err
	}
	img, err := w.Puller.Ensure(ctx, pod, c, auth, func(eventtype, reason, format string, args ...any) {
		w.Note(pod, c, eventtype, reason, format, args...)
	})
	if failure, ok := errors.AsType[*pull.Failure](err); ok {
		out := &notStarted{Waiting: failure.Waiting, retry: failure.Retry}
		if failure.Pulled {
			out.noteIn = min(failure.Retry/2, 2*time.Second)
		}
		return pull.Image{}, out
	}
	return img, err
}

// keychain collects the pod's image pull secrets. One that cannot be read is left out with a warning, as upstream does.
func (w *worker) keychain(ctx context.Context, pod *corev1.Pod) (authn.Keychain, error) {
	var secrets []*corev1.Secret
	var missing []string
	for _, ref := range pod.Spec.ImagePullSecrets {
		s, err := w.Objects.Secret(ctx, pod.Namespace, ref.Name)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err == nil {
			_, err = pull.Keychain([]*corev1.Secret{s})
		}
		if err != nil {
			w.log.Debug("image pull secret not usable", zap.String("secret", ref.Name), zap.Error(err))
			missing = append(missing, ref.Name)
			continue
		}
		secrets = append(secrets, s)
	}
	if len(missing) > 0 {
		w.Note(pod, nil, corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
			"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(missing, ", "))
	}
	return pull.Keychain(secrets)
}

// link is the name under which log collectors look for a container's log.
func (w *worker) link(container, id string) string {
	return filepath.Join(w.LinksDir, fmt.Sprintf("%s_%s_%s-%s.log", w.name, w.namespace, container, id))
}

// linkLog is a courtesy to log collectors: its failure is noted and no more.
func (w *worker) linkLog(container, id, path string) {
	if err := os.Symlink(path, w.link(container, id)); err != nil && !errors.Is(err, os.ErrExist) {
		w.log.Warn("log link not made", zap.String("container", container), zap.Error(err))
	}
}
