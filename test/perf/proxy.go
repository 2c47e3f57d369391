package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	proxyNamespace = "bench-proxy"
	proxyNode      = "bench"
	proxyEndpoints = 3
	proxyPort      = 8080
	proxyChanges   = 20
	proxyPause     = 1200 * time.Millisecond // between changes: kube-proxy makes one a second, and would be measured waiting
	proxyDials     = 2000
	proxyPatience  = 3 * time.Minute
)

// proxySizes are the numbers of services, rising: those that are there stay.
var proxySizes = []int{10, 1000, 5000, 20000}

// proxyModes are kube-proxy's, each a side of its own against ours.
var proxyModes = []string{"nftables", "iptables"}

var proxyRows = func() (out []row) {
	for _, mode := range proxyModes {
		for _, n := range proxySizes[1:] {
			key := func(what string) string { return fmt.Sprintf("%s-%s-%d", mode, what, n) }
			work := func(what string) string {
				return fmt.Sprintf("%d services of 3 endpoints, beside kube-proxy in mode %s: %s", n, mode, what)
			}
			out = append(out,
				row{"proxy", key("cold"), work("from its start until all answer"), "s", true, 5},
				row{"proxy", key("change"), work("an endpoint swapped until it answers, p50"), "ms", true, 7},
				row{"proxy", key("cpu"), work("CPU for each of these changes"), "ms", true, 2},
				row{"proxy", key("memory"), work("memory of the proxy"), "MiB", true, 3},
				row{"proxy", key("dial"), work("a new connection, p50"), "us", true, 1})
		}
	}
	return out
}()

// measureProxy lets kube-proxy, in both modes, and ours program the same Services, in turn, in this network namespace, which must have nothing in it but lo
// (run.sh makes one). Service addresses and endpoints are addresses of lo: without rules a connection is refused at once, and every endpoint is one server,
// which tells the address at which it was reached.
func measureProxy(ctx context.Context, o options) ([]measured, error) {
	s, err := startStage(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.end()
	p := &proxyLab{stage: s, o: o, random: rand.New(rand.NewPCG(1, 2))}
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	out := map[string]*measured{}
	add := func(key string, side int, v float64) {
		if out[key] == nil {
			out[key] = &measured{Key: key}
		}
		if side == 0 {
			out[key].Upstream = append(out[key].Upstream, v)
		} else {
			out[key].Ours = append(out[key].Ours, v)
		}
	}
	for _, n := range proxySizes {
		if most, err := strconv.Atoi(o.only); err == nil && n > most {
			break
		}
		if err := p.grow(ctx, n); err != nil {
			return nil, err
		}
		for r := range o.runs {
			for _, side := range append(slices.Clone(proxyModes), "hardway") {
				figures, err := p.run(ctx, side)
				if err != nil {
					return nil, fmt.Errorf("%d services, run %d of %s: %w", n, r+1, side, err)
				}
				fmt.Printf("%6d services run %d %-9s cold %.2f s, change p50 %.1f ms, %.1f ms CPU each, %.1f MiB, new connection p50 %.0f us, load %s\n",
					n, r+1, side, figures["cold"], figures["change"], figures["cpu"], figures["memory"], figures["dial"], load())
				for what, v := range figures {
					for _, mode := range proxyModes {
						switch side {
						case mode:
							add(fmt.Sprintf("%s-%s-%d", mode, what, n), 0, v)
						case "hardway":
							add(fmt.Sprintf("%s-%s-%d", mode, what, n), 1, v)
						}
					}
				}
			}
		}
	}
	var rows []measured
	for _, m := range out {
		rows = append(rows, *m)
	}
	return rows, nil
}

// proxyLab is the Services, and what they are.
type proxyLab struct {
	*stage
	o        options
	random   *rand.Rand
	services []proxied
}

// proxied is a service with the addresses of its endpoints.
type proxied struct {
	address   string
	endpoints []string
}

func (p *proxyLab) prepare(ctx context.Context) error {
	server, err := net.Listen("tcp", ":"+strconv.Itoa(proxyPort)) //nolint:noctx // until this process ends
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.LocalAddr().String())
			_, _ = io.WriteString(c, host+"\n")
			_ = c.Close()
		}
	}()
	api := p.client(0)
	if _, err := api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: proxyNamespace}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: proxyNode}}
	if node, err = api.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return err
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.99.0.1"}}
	_, err = api.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

// grow makes services until there are n.
func (p *proxyLab) grow(ctx context.Context, n int) error {
	first := len(p.services)
	p.services = append(p.services, make([]proxied, n-first)...)
	return parallel(ctx, n-first, func(i int) error {
		i += first
		name := fmt.Sprintf("service-%05d", i)
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}}
		svc.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(proxyPort)}}
		made, err := p.client(i).CoreV1().Services(proxyNamespace).Create(ctx, svc, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		p.services[i] = proxied{address: made.Spec.ClusterIP}
		for e := range proxyEndpoints {
			p.services[i].endpoints = append(p.services[i].endpoints, endpointAddress(i*8+e))
		}
		_, err = p.client(i).DiscoveryV1().EndpointSlices(proxyNamespace).Create(ctx, endpointSlice(name, p.services[i].endpoints), metav1.CreateOptions{})
		return err
	})
}

func endpointAddress(n int) string { return fmt.Sprintf("10.%d.%d.%d", 200+n>>16, n>>8&255, n&255) }

func endpointSlice(service string, addresses []string) *discoveryv1.EndpointSlice {
	name, port, protocol, ready := "http", int32(proxyPort), corev1.ProtocolTCP, true
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: service, Labels: map[string]string{discoveryv1.LabelServiceName: service}}}
	s.AddressType, s.Ports = discoveryv1.AddressTypeIPv4, []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready}})
	}
	return s
}

// run starts one of the proxies and measures it, and takes its rules away.
func (p *proxyLab) run(ctx context.Context, side string) (figures map[string]float64, err error) {
	config := filepath.Join(p.dir, "proxy.yaml")
	mode := side
	if side == "hardway" {
		mode = "nftables"
	}
	text := "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: " + mode + "\nhostnameOverride: " + proxyNode +
		"\nclientConnection: {kubeconfig: " + p.kubeconfig + "}\nclusterCIDR: 10.200.0.0/13\noomScoreAdj: 0\n" +
		"conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	program := filepath.Join(p.o.peers, "kube-proxy")
	if side == "hardway" {
		program = filepath.Join(p.o.bin, "hardway-netproxy")
	}
	log, err := os.Create(filepath.Join(p.dir, side+".log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	began := time.Now()
	proxy := exec.Command(program, "--config="+config) //nolint:noctx // stopped below
	proxy.Stdout, proxy.Stderr = log, log
	if err := proxy.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = proxy.Process.Signal(os.Interrupt)
		_ = proxy.Wait()
		if out, clean := exec.Command(program, "--cleanup").CombinedOutput(); clean != nil && side == "hardway" { //nolint:noctx // kube-proxy's fails for what it cannot clean
			err = errors.Join(err, fmt.Errorf("clean up: %w\n%s", clean, out))
		}
	}()
	tell := func(err error) error {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):])
	}
	figures = map[string]float64{}
	if err := p.allAnswer(ctx); err != nil {
		return nil, tell(err)
	}
	figures["cold"] = time.Since(began).Seconds()
	if err := wait(ctx, 2*time.Second); err != nil { // a proxy that writes in rounds
		return nil, err
	}
	before, err := cpu(proxy.Process.Pid)
	if err != nil {
		return nil, tell(err)
	}
	changes, err := p.swaps(ctx)
	if err != nil {
		return nil, tell(err)
	}
	after, err := cpu(proxy.Process.Pid)
	if err != nil {
		return nil, tell(err)
	}
	figures["change"], figures["cpu"] = ms(median2(changes)), (after-before)*1000/proxyChanges
	if figures["memory"], err = rss(proxy.Process.Pid); err != nil {
		return nil, err
	}
	var dials []time.Duration
	for range proxyDials {
		at := time.Now()
		if _, err := reached(p.services[p.random.IntN(len(p.services))].address); err != nil {
			return nil, tell(err)
		}
		dials = append(dials, time.Since(at))
	}
	figures["dial"] = float64(median2(dials).Nanoseconds()) / 1000
	return figures, nil
}

func median2(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// reached connects to a service, and returns the address of the endpoint that answered.
func reached(service string) (string, error) {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(service, "80"), time.Second) //nolint:noctx // it has a timeout
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	text, err := io.ReadAll(c)
	if err != nil {
		return "", err
	}
	if len(text) == 0 {
		return "", errors.New("no answer")
	}
	return string(text[:len(text)-1]), nil
}

// allAnswer waits until a connection to each service is answered by one of its endpoints.
func (p *proxyLab) allAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, proxyPatience)
	defer cancel()
	for i, s := range p.services {
		for {
			at, err := reached(s.address)
			if err == nil && slices.Contains(s.endpoints, at) {
				break
			}
			if err := wait(ctx, 5*time.Millisecond); err != nil {
				return fmt.Errorf("%d of %d services answer: %w", i, len(p.services), err)
			}
		}
	}
	return nil
}

// swaps exchanges all endpoints of a service for another one, again and again, and returns how long each took until that answered.
func (p *proxyLab) swaps(ctx context.Context) (took []time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, proxyPatience)
	defer cancel()
	for range proxyChanges {
		i := p.random.IntN(len(p.services))
		s := &p.services[i]
		name := fmt.Sprintf("service-%05d", i)
		next := endpointAddress(i*8 + proxyEndpoints)
		if len(s.endpoints) == 1 && s.endpoints[0] == next {
			next = endpointAddress(i*8 + proxyEndpoints + 1)
		}
		s.endpoints = []string{next}
		slice := endpointSlice(name, s.endpoints)
		began := time.Now()
		if _, err := p.client(0).DiscoveryV1().EndpointSlices(proxyNamespace).Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
			return nil, err
		}
		for {
			if at, err := reached(s.address); err == nil && at == next {
				break
			}
			if err := wait(ctx, time.Millisecond); err != nil {
				return nil, fmt.Errorf("a change is not there: %w", err)
			}
		}
		took = append(took, time.Since(began))
		if err := wait(ctx, proxyPause); err != nil {
			return nil, err
		}
	}
	return took, nil
}
