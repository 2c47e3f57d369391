// Package extender asks programs outside over HTTP which of the nodes that will do for a pod they like (upstream's scheduler
// extenders, extender/v1): each may refuse nodes, rank them, have a say in which pods are evicted for it, and do the binding.
//
// They are asked one after the other in the middle of a decision, so a slow one slows all scheduling down, to one pod in its
// httpTimeout at worst. One that is ignorable is left out when it fails; of any other a failure puts the pod back.
package extender

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"hardway/scheduler/cycle"
	"hardway/scheduler/framework"
)

// Name stands for all extenders where plugins are named.
const Name = "Extender"

const (
	defaultTimeout = 5 * time.Second
	maxAnswer      = 64 << 20
	// scale brings the ranks of extenders, 0 to 10, to those of plugins.
	scale = framework.MaxScore / extenderv1.MaxExtenderPriority
)

// Extender is one of them. Make it with New.
type Extender struct {
	of     schedulerv1.Extender
	url    string
	client *http.Client
	log    *zap.Logger
}

// New makes an extender as it is configured.
func New(of schedulerv1.Extender, log *zap.Logger) (*Extender, error) {
	switch {
	case of.URLPrefix == "":
		return nil, errors.New("urlPrefix is empty")
	case of.PrioritizeVerb != "" && of.Weight <= 0:
		return nil, fmt.Errorf("weight: %d is not positive", of.Weight)
	}
	config, err := tlsOf(&of)
	if err != nil {
		return nil, fmt.Errorf("tlsConfig: %w", err)
	}
	timeout := of.HTTPTimeout.Duration
	if timeout == 0 {
		timeout = defaultTimeout
	}
	transport := &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 10, IdleConnTimeout: time.Minute}
	return &Extender{of: of, url: strings.TrimRight(of.URLPrefix, "/"), client: &http.Client{Transport: transport, Timeout: timeout}, log: log}, nil
}

func tlsOf(of *schedulerv1.Extender) (*tls.Config, error) {
	if !of.EnableHTTPS && of.TLSConfig == nil {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	given := of.TLSConfig
	if given == nil {
		return out, nil
	}
	out.InsecureSkipVerify, out.ServerName = given.Insecure, given.ServerName //nolint:gosec // as the administrator asks
	read := func(data []byte, file string) ([]byte, error) {
		if len(data) > 0 || file == "" {
			return data, nil
		}
		return os.ReadFile(file)
	}
	ca, err1 := read(given.CAData, given.CAFile)
	cert, err2 := read(given.CertData, given.CertFile)
	key, err3 := read(given.KeyData, given.KeyFile)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	if len(ca) > 0 {
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("no certificate in the CA")
		}
	}
	if len(cert) > 0 {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// Managed are the resources that plugins leave to extenders.
func Managed(list []schedulerv1.Extender) (names []string) {
	for i := range list {
		for _, r := range list[i].ManagedResources {
			if r.IgnoredByScheduler {
				names = append(names, r.Name)
			}
		}
	}
	return names
}

// concerns says whether a pod asks for what the extender manages, which is anything when it names nothing.
func (e *Extender) concerns(p *corev1.Pod) bool {
	if len(e.of.ManagedResources) == 0 {
		return true
	}
	asks := func(list corev1.ResourceList) bool {
		for _, r := range e.of.ManagedResources {
			if _, ok := list[corev1.ResourceName(r.Name)]; ok {
				return true
			}
		}
		return false
	}
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			if asks(list[i].Resources.Requests) || asks(list[i].Resources.Limits) {
				return true
			}
		}
	}
	return false
}

// Ask makes the question for one pod; nil when no extender has a say.
func Ask(ctx context.Context, list []*Extender, p *framework.Pod) cycle.Ask {
	var mine []*Extender
	for _, e := range list {
		if e.concerns(p.Pod) && (e.of.FilterVerb != "" || e.of.PrioritizeVerb != "") {
			mine = append(mine, e)
		}
	}
	if len(mine) == 0 {
		return nil
	}
	return func(nodes []*framework.Node) (o cycle.Opinion, err error) {
		o = cycle.Opinion{No: map[string]*framework.Status{}, Score: map[string]int64{}}
		for _, e := range mine {
			if nodes, err = e.filter(ctx, p.Pod, nodes, o.No); err != nil {
				return o, err
			}
		}
		for _, e := range mine {
			if len(nodes) > 0 {
				e.rank(ctx, p.Pod, nodes, o.Score)
			}
		}
		return o, nil
	}
}

// question is nodes as an extender wants them: by name when it knows them itself.
func (e *Extender) question(p *corev1.Pod, nodes []*framework.Node) *extenderv1.ExtenderArgs {
	args := &extenderv1.ExtenderArgs{Pod: p}
	if e.of.NodeCacheCapable {
		names := make([]string, len(nodes))
		for i, n := range nodes {
			names[i] = n.Name
		}
		args.NodeNames = &names
		return args
	}
	args.Nodes = &corev1.NodeList{Items: make([]corev1.Node, len(nodes))}
	for i, n := range nodes {
		args.Nodes.Items[i] = *n.Node
	}
	return args
}

// filter returns the nodes that are left, and writes down why others are not.
func (e *Extender) filter(ctx context.Context, p *corev1.Pod, nodes []*framework.Node, no map[string]*framework.Status) ([]*framework.Node, error) {
	if e.of.FilterVerb == "" || len(nodes) == 0 {
		return nodes, nil
	}
	var answer extenderv1.ExtenderFilterResult
	err := e.call(ctx, e.of.FilterVerb, e.question(p, nodes), &answer)
	if err == nil && answer.Error != "" {
		err = errors.New(answer.Error)
	}
	if err != nil && e.of.Ignorable {
		e.log.Warn("left out an extender that failed", zap.String("extender", e.url), zap.Error(err))
		return nodes, nil
	}
	if err != nil {
		return nil, fmt.Errorf("extender %s: filter: %w", e.url, err)
	}
	left := map[string]bool{}
	switch {
	case answer.NodeNames != nil:
		for _, name := range *answer.NodeNames {
			left[name] = true
		}
	case answer.Nodes != nil:
		for i := range answer.Nodes.Items {
			left[answer.Nodes.Items[i].Name] = true
		}
	}
	said := map[string]*framework.Status{} // one Status for each sentence
	return slices.DeleteFunc(slices.Clone(nodes), func(n *framework.Node) bool {
		if left[n.Name] {
			return false
		}
		code, reason := framework.Unschedulable, "node(s) were refused by extender "+e.url
		if why, ok := answer.FailedAndUnresolvableNodes[n.Name]; ok {
			code, reason = framework.Unresolvable, why
		} else if why, ok := answer.FailedNodes[n.Name]; ok {
			reason = why
		}
		key := fmt.Sprint(code, reason)
		if said[key] == nil {
			said[key] = framework.No(code, Name, reason)
		}
		no[n.Name] = said[key]
		return true
	}), nil
}

// rank adds what the extender thinks of nodes. One that fails has no preferences.
func (e *Extender) rank(ctx context.Context, p *corev1.Pod, nodes []*framework.Node, score map[string]int64) {
	if e.of.PrioritizeVerb == "" {
		return
	}
	var answer extenderv1.HostPriorityList
	if err := e.call(ctx, e.of.PrioritizeVerb, e.question(p, nodes), &answer); err != nil {
		e.log.Warn("an extender does not rank nodes", zap.String("extender", e.url), zap.Error(err))
		return
	}
	for _, host := range answer {
		score[host.Host] += host.Score * e.of.Weight * scale
	}
}

// Binder is the extender that binds a pod; nil when none does.
func Binder(list []*Extender, p *corev1.Pod) *Extender {
	for _, e := range list {
		if e.of.BindVerb != "" && e.concerns(p) {
			return e
		}
	}
	return nil
}

// Bind lets the extender bind a pod.
func (e *Extender) Bind(ctx context.Context, p *framework.Pod, node string) error {
	var answer extenderv1.ExtenderBindingResult
	err := e.call(ctx, e.of.BindVerb, &extenderv1.ExtenderBindingArgs{PodName: p.Name, PodNamespace: p.Namespace, PodUID: p.UID, Node: node}, &answer)
	if err == nil && answer.Error != "" {
		err = errors.New(answer.Error)
	}
	if err != nil {
		return fmt.Errorf("extender %s: bind: %w", e.url, err)
	}
	return nil
}

func (e *Extender) call(ctx context.Context, verb string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+"/"+verb, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := e.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", response.Status)
	}
	return json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(answer)
}

// Binding is the framework.Bind of a profile with extenders: it asks the one that binds the pod, if there is one.
type Binding struct {
	Otherwise framework.Bind
	Extenders []*Extender
}

// Name implements framework.Plugin.
func (b Binding) Name() string { return b.Otherwise.Name() }

// Bind implements framework.Bind.
func (b Binding) Bind(ctx context.Context, p *framework.Pod, node string) error {
	if e := Binder(b.Extenders, p.Pod); e != nil {
		return e.Bind(ctx, p, node)
	}
	return b.Otherwise.Bind(ctx, p, node)
}

// Wakes implements framework.Wakes: what an extender refused, anything may help.
type Wakes struct{}

// Name implements framework.Plugin.
func (Wakes) Name() string { return Name }

// Heeds implements framework.Wakes.
func (Wakes) Heeds() framework.ChangeKinds {
	return framework.Kinds(framework.NodeAdded, framework.NodeChanged, framework.PodPlaced, framework.PodChanged, framework.PodGone, framework.StorageChanged, framework.DevicesChanged)
}

// Helps implements framework.Wakes.
func (Wakes) Helps(*framework.Pod, framework.Change) bool { return true }
