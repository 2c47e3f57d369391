// Package hook runs the postStart and preStop hooks of containers.
package hook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/probe"
)

// Exec runs a command in a container and returns its exit code; out gets both of its streams.
type Exec func(ctx context.Context, uid types.UID, id string, cmd []string, out io.Writer) (int, error)

// Target is the container that a hook belongs to.
type Target struct {
	Pod       *corev1.Pod
	Container *corev1.Container
	ID        string
	IP        string
}

// Run runs one hook and returns once it has ended, or when ctx has. The error is for the log: it may hold output of
// the container and is not for events.
func Run(ctx context.Context, h *corev1.LifecycleHandler, t Target, exec Exec) error {
	switch {
	case h.Exec != nil:
		var out probe.Output
		code, err := exec(ctx, t.Pod.UID, t.ID, h.Exec.Command, &out)
		if err == nil && code != 0 {
			err = fmt.Errorf("command %q exited with %d: %s", h.Exec.Command, code, strings.TrimSpace(out.String()))
		}
		return err
	case h.HTTPGet != nil:
		return get(ctx, h.HTTPGet, t)
	case h.Sleep != nil:
		select {
		case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	case h.TCPSocket != nil:
		return errors.New("tcpSocket is not a lifecycle hook")
	default:
		return errors.New("the hook says nothing to do")
	}
}

// get asks the URL. Any answer counts as done, and an HTTPS request that meets plain HTTP is repeated as such: both
// are upstream's ways.
func get(ctx context.Context, a *corev1.HTTPGetAction, t Target) error {
	req, err := probe.Request(ctx, a, t.Container, t.IP, "kube-lifecycle/1.36")
	if err != nil {
		return err
	}
	client := &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, // a hook names no CA
	}
	resp, err := client.Do(req)
	if err != nil && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		req = req.Clone(ctx)
		req.URL.Scheme = "http"
		resp, err = client.Do(req)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 10<<10))
	return err
}
