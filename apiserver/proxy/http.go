package proxy

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"hardway/apiserver/request"
)

// flushInterval is how long a part of a response may wait for more.
const flushInterval = 200 * time.Millisecond

// PodProxy sends a request on to a pod: pods/[scheme:]name[:port]/proxy/path. Without a port it is the first that a
// container declares.
func (p *Proxy) PodProxy(w http.ResponseWriter, r *http.Request, info *request.Info) error {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(info.Name)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid pod request %q", info.Name))
	}
	pod, err := p.objects.Pod(r.Context(), info.Namespace, name)
	if err != nil {
		return err
	}
	for i := 0; port == "" && i < len(pod.Spec.Containers); i++ {
		if ports := pod.Spec.Containers[i].Ports; len(ports) > 0 {
			port = strconv.Itoa(int(ports[0].ContainerPort))
		}
	}
	if _, err := netip.ParseAddr(pod.Status.PodIP); err != nil {
		return apierrors.NewBadRequest(errNotAllowed.Error())
	}
	return p.http(w, r, info, &url.URL{Scheme: scheme, Host: hostPort(pod.Status.PodIP, port)}, p.others)
}

func hostPort(host, port string) string {
	if port != "" {
		return net.JoinHostPort(host, port)
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// ServiceProxy sends a request on to some ready pod of a Service: services/[scheme:]name[:port]/proxy/path, where port
// is a number or name of the Service's.
func (p *Proxy) ServiceProxy(w http.ResponseWriter, r *http.Request, info *request.Info) error {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(info.Name)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid service request %q", info.Name))
	}
	svc, err := p.objects.Service(r.Context(), info.Namespace, name)
	if err != nil {
		return err
	}
	if number, err := strconv.ParseInt(port, 10, 32); err == nil {
		i := slices.IndexFunc(svc.Spec.Ports, func(sp corev1.ServicePort) bool { return int64(sp.Port) == number })
		if i < 0 {
			return apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", number, name))
		}
		port = svc.Spec.Ports[i].Name
	}
	host, err := p.pickEndpoint(r.Context(), info, name, port)
	if err != nil {
		return err
	}
	return p.http(w, r, info, &url.URL{Scheme: scheme, Host: host}, p.others)
}

// pickEndpoint finds a ready pod behind a Service's port by chance. Only addresses that are really a pod's count: an
// EndpointSlice can be written by hand.
func (p *Proxy) pickEndpoint(ctx context.Context, info *request.Info, service, port string) (string, error) {
	slices, err := p.objects.Slices(ctx, info.Namespace, service)
	if err != nil {
		return "", err
	}
	type candidate struct{ address, port, pod string }
	var candidates []candidate
	for _, s := range slices {
		number := slicePort(s, port)
		if number == "" {
			continue
		}
		for _, e := range s.Endpoints {
			ready := e.Conditions.Ready == nil || *e.Conditions.Ready
			ref := e.TargetRef
			if ready && ref != nil && ref.Kind == "Pod" && ref.Namespace == info.Namespace && len(e.Addresses) > 0 {
				candidates = append(candidates, candidate{e.Addresses[0], number, ref.Name})
			}
		}
	}
	for _, i := range rand.Perm(len(candidates)) {
		c := candidates[i]
		pod, err := p.objects.Pod(ctx, info.Namespace, c.pod)
		if err == nil && hasAddress(pod, c.address) {
			return net.JoinHostPort(c.address, c.port), nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", info.Name))
}

func slicePort(s *discoveryv1.EndpointSlice, name string) string {
	for _, sp := range s.Ports {
		if sp.Port != nil && (sp.Name == nil && name == "" || sp.Name != nil && *sp.Name == name) {
			return strconv.Itoa(int(*sp.Port))
		}
	}
	return ""
}

func hasAddress(pod *corev1.Pod, address string) bool {
	return slices.ContainsFunc(pod.Status.PodIPs, func(ip corev1.PodIP) bool { return ip.IP == address })
}

// NodeProxy sends a request on to a node: nodes/[scheme:]name[:port]/proxy/path. Without a port, or with its own, it is
// the node agent.
func (p *Proxy) NodeProxy(w http.ResponseWriter, r *http.Request, info *request.Info) error {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(info.Name)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid node request %q", info.Name))
	}
	node, err := p.objects.Node(r.Context(), name)
	if err != nil {
		return err
	}
	host, agentPort, err := p.nodeAddress(node)
	if err != nil {
		return err
	}
	if port == "" || port == agentPort {
		return p.http(w, r, info, &url.URL{Scheme: "https", Host: net.JoinHostPort(host, agentPort)}, p.nodes)
	}
	return p.http(w, r, info, &url.URL{Scheme: scheme, Host: net.JoinHostPort(host, port)}, p.others)
}

// subPath is what follows /proxy in a request's path, and the part of the path up to there.
func subPath(info *request.Info) (rest, prefix string) {
	if len(info.Parts) > 3 {
		rest = "/" + strings.Join(info.Parts[3:], "/")
	}
	if strings.HasSuffix(info.Path, "/") {
		rest += "/"
	}
	return rest, strings.TrimSuffix(info.Path, rest)
}

// http sends a request on and brings the answer back. to lacks the path.
func (p *Proxy) http(w http.ResponseWriter, r *http.Request, info *request.Info, to *url.URL, via *backend) error {
	if to.Scheme == "" {
		to.Scheme = "http"
	}
	rest, prefix := subPath(info)
	to.Path, to.RawQuery = rest, r.URL.RawQuery
	if isUpgrade(r) {
		if to.Path == "" {
			to.Path = "/"
		}
		return p.upgrade(w, r, to, via)
	}
	if rest == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		// Relative links of the page lead to the right place only below a slash.
		again := url.URL{Path: r.URL.Path + "/", RawQuery: r.URL.RawQuery}
		w.Header().Set("Location", again.String())
		w.WriteHeader(http.StatusMovedPermanently)
		return nil
	}
	var failed error
	reverse := &httputil.ReverseProxy{
		Transport:     via.transport,
		FlushInterval: flushInterval,
		ErrorLog:      zap.NewStdLog(p.log),
		ErrorHandler:  func(_ http.ResponseWriter, _ *http.Request, err error) { failed = unreachable(err) },
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL = to
			pr.Out.Host = pr.In.Host
			hide(pr.Out.Header)
			pr.Out.Header["X-Forwarded-For"] = pr.In.Header["X-Forwarded-For"]
			pr.SetXForwarded()
			pr.Out.Header.Set("X-Forwarded-Uri", prefix+rest)
		},
		ModifyResponse: func(resp *http.Response) error {
			for _, name := range []string{"Credentials", "Headers", "Methods", "Origin"} {
				resp.Header.Del("Access-Control-Allow-" + name)
			}
			back := links{prefix, []string{to.Host, r.Host}}
			if err := back.relocate(resp, to); err != nil {
				return err
			}
			return back.page(resp)
		},
	}
	reverse.ServeHTTP(w, r)
	return failed
}

// relocate makes a redirect of the backend to itself lead through this proxy. It is passed on, never followed.
func (l links) relocate(resp *http.Response, to *url.URL) error {
	location := resp.Header.Get("Location")
	if location == "" {
		return nil
	}
	u, err := to.Parse(location)
	if err != nil {
		resp.Body.Close()
		resp.Body = io.NopCloser(strings.NewReader(""))
		return fmt.Errorf("redirect to %q: %w", location, err)
	}
	resp.Header.Set("Location", l.through(u).String())
	return nil
}
