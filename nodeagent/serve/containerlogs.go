package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"hardway/nodeagent/podworker"
	"hardway/nodeagent/podworker/compose"
	"hardway/nodeagent/runtime"
	"hardway/nodeagent/serve/logs"
	"hardway/nodeagent/status"
)

func (s *server) containerLogs(w http.ResponseWriter, r *http.Request) {
	p, ok := s.find(w, r)
	if !ok {
		return
	}
	container := r.PathValue("container")
	if podworker.FindContainer(p.Pod, container) == nil {
		http.Error(w, fmt.Sprintf("container %q not found in pod %q", container, p.Name), http.StatusNotFound)
		return
	}
	q := r.URL.Query()
	o, err := logOptions(q, time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	attempt, err := instance(p, container, q.Get("previous") == "true")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := &flusher{w: w, c: http.NewResponseController(w)}
	var stdout, stderr io.Writer = out, out
	switch q.Get("stream") {
	case "", corev1.LogStreamAll:
	case corev1.LogStreamStdout:
		stderr = nil
	case corev1.LogStreamStderr:
		stdout = nil
	default:
		http.Error(w, fmt.Sprintf("invalid stream type %q", q.Get("stream")), http.StatusBadRequest)
		return
	}
	o.Running = func() bool { return s.running(p, container, attempt) }
	path := compose.LogPath(s.LogDir, p.Namespace, p.Name, p.UID, container, attempt)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if o.Follow {
		out.flush() // the client learns at once that it is being served
	}
	err = logs.Read(r.Context(), path, o, stdout, stderr)
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	s.Log.Debug("log not delivered in full", zap.String("namespace", p.Namespace), zap.String("name", p.Name), zap.Error(err))
	if !out.begun {
		http.Error(w, fmt.Sprintf("unable to retrieve container logs for %s", status.IDPrefix+container), http.StatusInternalServerError)
	}
}

// logOptions reads the query as upstream does.
func logOptions(q url.Values, now time.Time) (logs.Options, error) {
	o := logs.Options{Follow: q.Get("follow") == "true", Timestamps: q.Get("timestamps") == "true", Tail: -1}
	number := func(name string, least int64, into *int64) error {
		v := q.Get(name)
		if v == "" {
			return nil
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < least {
			return fmt.Errorf("invalid value %q for %s: must be a number of at least %d", v, name, least)
		}
		*into = n
		return nil
	}
	since := int64(0)
	if err := errors.Join(number("tailLines", 0, &o.Tail), number("limitBytes", 1, &o.Limit), number("sinceSeconds", 1, &since)); err != nil {
		return o, err
	}
	if since > 0 {
		o.Since = now.Add(-time.Duration(since) * time.Second)
	}
	if v := q.Get("sinceTime"); v != "" {
		if since > 0 {
			return o, errors.New("at most one of sinceTime or sinceSeconds may be specified")
		}
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return o, fmt.Errorf("invalid value %q for sinceTime: %w", v, err)
		}
		o.Since = t
	}
	return o, nil
}

// instance picks the instance whose log is meant, by what the pod's status says. Messages are upstream's.
func instance(p podworker.Pod, container string, previous bool) (int, error) {
	st := podworker.FindStatus(&p.Status, container)
	if st == nil {
		return 0, fmt.Errorf("container %q in pod %q is not available", container, p.Name)
	}
	newest := int(st.RestartCount)
	last := st.LastTerminationState.Terminated
	switch {
	case previous && (last == nil || last.ContainerID == ""):
		return 0, fmt.Errorf("previous terminated container %q in pod %q not found", container, p.Name)
	case previous && last.ContainerID == st.ContainerID:
		return newest, nil // nothing has been started since
	case previous:
		return newest - 1, nil
	case st.State.Running != nil, st.State.Terminated != nil && st.State.Terminated.ContainerID != "":
		return newest, nil
	case last != nil && last.ContainerID != "":
		return newest, nil
	case st.State.Terminated != nil, last != nil:
		return 0, fmt.Errorf("container %q in pod %q is terminated", container, p.Name)
	case st.State.Waiting != nil:
		reason := st.State.Waiting.Reason
		switch reason {
		case "ErrImagePull":
			reason = "image can't be pulled"
		case "ImagePullBackOff":
			reason = "trying and failing to pull image"
		}
		return 0, fmt.Errorf("container %q in pod %q is waiting to start: %s", container, p.Name, reason)
	default:
		return 0, fmt.Errorf("container %q in pod %q is waiting to start - no logs yet", container, p.Name)
	}
}

// running says whether more may be written to the log of an instance.
func (s *server) running(p podworker.Pod, container string, attempt int) bool {
	now, ok := s.Pods.ByName(p.Namespace, p.Name)
	if !ok || now.UID != p.UID || now.Observed == nil {
		return false
	}
	for _, c := range now.Observed.Containers {
		if c.Name == container && c.Attempt == attempt {
			return c.State == runtime.Running
		}
	}
	return false
}

// runningID returns the running instance of a container.
func runningID(p podworker.Pod, container string) (string, error) {
	if podworker.FindContainer(p.Pod, container) == nil {
		return "", fmt.Errorf("container not found (%q)", container)
	}
	if p.Observed != nil {
		for _, c := range p.Observed.Containers {
			if c.Name == container && c.State == runtime.Running {
				return c.ID, nil
			}
		}
	}
	return "", fmt.Errorf("container not running (%s)", strings.TrimSpace(container))
}

// flusher sends every write on at once.
type flusher struct {
	w     io.Writer
	c     *http.ResponseController
	begun bool
}

func (f *flusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		f.flush()
	}
	return n, err
}

// flush ignores its error: the next write reports it.
func (f *flusher) flush() {
	f.begun = true
	_ = f.c.Flush()
}
