package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	dnsServices  = 150 // as many as fit the smallest service range beside others
	dnsNamespace = "bench-dns"
	dnsPort      = "5391"
)

// measureDNS asks each server for the addresses of services over UDP, from 20 sockets with 100 questions under way, with dnsperf.
func measureDNS(ctx context.Context, o options) ([]measured, error) {
	dir, err := os.MkdirTemp("", "bench-dns")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	remove, err := dnsNames(ctx, o.kubeconfig, dir)
	if err != nil {
		return nil, err
	}
	defer remove()
	corefile := fmt.Sprintf(".:%s {\n bind 127.0.0.1\n kubernetes cluster.local {\n  kubeconfig %s\n }\n cache 30\n}\n", dnsPort, o.kubeconfig)
	if err := os.WriteFile(filepath.Join(dir, "Corefile"), []byte(corefile), 0o600); err != nil {
		return nil, err
	}
	sides := [2][]string{
		{filepath.Join(o.peers, "coredns"), "-conf", filepath.Join(dir, "Corefile")},
		{filepath.Join(o.bin, "hardway-dns"), "--kubeconfig", o.kubeconfig, "--publish=false", "--listen=127.0.0.1", "--port=" + dnsPort,
			"--cluster-dns=10.32.0.10", "--health-bind-address=", "--ready-bind-address=", "--metrics-bind-address=127.0.0.1:5392"},
	}
	percore, saturated, memory := measured{Key: "percore"}, measured{Key: "saturated"}, measured{Key: "memory"}
	for n := range o.runs {
		for side, command := range sides {
			r, err := dnsRun(ctx, command, dir, o.length)
			if err != nil {
				return nil, fmt.Errorf("run %d of %s: %w", n+1, command[0], err)
			}
			fmt.Printf("%-12s run %d: %.0f queries/s, %.2f cores, %.1f MiB, %d lost\n", filepath.Base(command[0]), n+1, r.rate, r.cores, r.memory, r.lost)
			if r.lost > 0 {
				return nil, fmt.Errorf("%s lost %d queries", command[0], r.lost)
			}
			for m, v := range map[*measured]float64{&percore: r.rate / r.cores, &saturated: r.rate, &memory: r.memory} {
				if side == 0 {
					m.Upstream = append(m.Upstream, v)
				} else {
					m.Ours = append(m.Ours, v)
				}
			}
		}
	}
	return []measured{percore, saturated, memory}, nil
}

// dnsNames makes the services and the list of questions; the function that it returns removes the services.
func dnsNames(ctx context.Context, kubeconfig, dir string) (remove func(), err error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	config.QPS = -1
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: dnsNamespace}}
	if _, err := api.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, err
	}
	remove = func() {
		if err := api.CoreV1().Namespaces().Delete(context.WithoutCancel(ctx), dnsNamespace, metav1.DeleteOptions{}); err != nil {
			fmt.Fprintln(os.Stderr, "perf: remove services:", err)
		}
	}
	var questions strings.Builder
	for i := range dnsServices {
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s" + strconv.Itoa(i)}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
		if _, err := api.CoreV1().Services(dnsNamespace).Create(ctx, service, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			remove()
			return nil, fmt.Errorf("create service: %w", err)
		}
		fmt.Fprintf(&questions, "s%d.%s.svc.cluster.local A\n", i, dnsNamespace)
	}
	if err := os.WriteFile(filepath.Join(dir, "questions"), []byte(questions.String()), 0o600); err != nil {
		remove()
		return nil, err
	}
	return remove, nil
}

type dnsResult struct {
	rate, cores, memory float64
	lost                int
}

// dnsRun starts a server, warms its cache, and measures.
func dnsRun(ctx context.Context, command []string, dir string, length time.Duration) (r dnsResult, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	log, err := os.Create(filepath.Join(dir, filepath.Base(command[0])+".log"))
	if err != nil {
		return r, err
	}
	defer func() { _ = log.Close() }()
	server := exec.CommandContext(ctx, command[0], command[1:]...)
	server.Stdout, server.Stderr = log, log
	server.Cancel = func() error { return server.Process.Signal(os.Interrupt) }
	server.WaitDelay = 10 * time.Second
	if err := server.Start(); err != nil {
		return r, err
	}
	defer func() {
		cancel()
		_ = server.Wait()
	}()
	if err := dnsAnswers(ctx, "s0."+dnsNamespace+".svc.cluster.local"); err != nil {
		text, _ := os.ReadFile(log.Name())
		return r, fmt.Errorf("%w\n%s", err, text[max(0, len(text)-1000):])
	}
	if _, err := dnsperf(ctx, dir, time.Second); err != nil {
		return r, err
	}
	before, err := cpu(server.Process.Pid)
	if err != nil {
		return r, err
	}
	started := time.Now()
	out, err := dnsperf(ctx, dir, length)
	if err != nil {
		return r, err
	}
	took := time.Since(started)
	after, err := cpu(server.Process.Pid)
	if err != nil {
		return r, err
	}
	r.cores = (after - before) / took.Seconds()
	r.rate = value(out, "Queries per second:")
	r.lost = int(value(out, "Queries lost:"))
	r.memory, err = rss(server.Process.Pid)
	if r.rate == 0 || r.cores == 0 {
		err = fmt.Errorf("dnsperf said:\n%s", out)
	}
	return r, err
}

func dnsperf(ctx context.Context, dir string, length time.Duration) (string, error) {
	out, err := exec.CommandContext(ctx, "dnsperf", "-s", "127.0.0.1", "-p", dnsPort, "-d", filepath.Join(dir, "questions"),
		"-c", "20", "-q", "100", "-l", strconv.Itoa(int(length/time.Second))).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("dnsperf (Debian package dnsperf): %w\n%s", err, out)
	}
	return string(out), nil
}

// dnsAnswers waits until the server knows a name.
func dnsAnswers(ctx context.Context, name string) error {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+dnsPort)
	}}
	limited, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := resolver.LookupHost(limited, name+".")
		if err == nil {
			return nil
		}
		select {
		case <-limited.Done():
			return errors.Join(errors.New("the server does not answer"), err)
		case <-tick.C:
		}
	}
}

// value reads the number behind a label.
func value(out, label string) float64 {
	_, rest, _ := strings.Cut(out, label)
	if fields := strings.Fields(rest); len(fields) > 0 {
		v, _ := strconv.ParseFloat(fields[0], 64)
		return v
	}
	return 0
}
