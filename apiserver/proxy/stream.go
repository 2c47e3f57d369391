package proxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hardway/apiserver/request"
)

// Exec runs a command in a container, with its streams on the upgraded connection.
func (p *Proxy) Exec(w http.ResponseWriter, r *http.Request, info *request.Info) error {
	return p.inContainer(w, r, info, "exec")
}

// Attach connects to the streams of a container's main process.
func (p *Proxy) Attach(w http.ResponseWriter, r *http.Request, info *request.Info) error {
	return p.inContainer(w, r, info, "attach")
}

func (p *Proxy) inContainer(w http.ResponseWriter, r *http.Request, info *request.Info, what string) error {
	query := r.URL.Query()
	to, err := p.toContainer(r.Context(), info, what, query.Get("container"))
	if err != nil {
		return err
	}
	to.RawQuery = streamQuery(query, what == "exec").Encode()
	if !isUpgrade(r) {
		return apierrors.NewBadRequest("Upgrade request required")
	}
	return p.upgrade(w, r, to, p.nodes)
}

// streamQuery translates the API's options into the node agent's.
func streamQuery(query url.Values, command bool) url.Values {
	out := url.Values{}
	for from, to := range map[string]string{"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"} {
		if request.Flag(query, from) {
			out.Set(to, "1")
		}
	}
	if command {
		out["command"] = query["command"]
	}
	return out
}

// toContainer is the node agent's URL for a container of a pod that runs.
func (p *Proxy) toContainer(ctx context.Context, info *request.Info, what, container string) (*url.URL, error) {
	pod, err := p.objects.Pod(ctx, info.Namespace, info.Name)
	if err != nil {
		return nil, err
	}
	container, err = pickContainer(pod, container)
	if err != nil {
		return nil, err
	}
	return p.toNode(ctx, pod, what, container)
}

// toNode is the node agent's URL for something of a pod.
func (p *Proxy) toNode(ctx context.Context, pod *corev1.Pod, what string, more ...string) (*url.URL, error) {
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	node, err := p.objects.Node(ctx, pod.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	host, port, err := p.nodeAddress(node)
	if err != nil {
		return nil, err
	}
	parts := append([]string{"/", what, pod.Namespace, pod.Name}, more...)
	return &url.URL{Scheme: "https", Host: net.JoinHostPort(host, port), Path: path.Join(parts...)}, nil
}

// pickContainer wants the name of a container of the pod; a pod with one container needs none.
func pickContainer(pod *corev1.Pod, wish string) (string, error) {
	var names []string
	for _, c := range pod.Spec.InitContainers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.Containers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		names = append(names, c.Name)
	}
	switch {
	case wish == "" && len(pod.Spec.Containers) == 1:
		return pod.Spec.Containers[0].Name, nil
	case wish == "":
		return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, choose one of: %s", pod.Name, names))
	case !slices.Contains(names, wish):
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", wish, pod.Name))
	}
	return wish, nil
}
