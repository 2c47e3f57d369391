// Command hollow is thousands of nodes that do not exist: each has a Node object and a Lease that it renews, and runs its pods by saying so after a
// delay. One process stands in for all of them, against any API server.
//
//	hollow -kubeconfig FILE -nodes 5000 [-start 100ms] [-stop 100ms] [-lease 10s] [-zones 10] [-prefix hollow] [-keep]
//
// It creates the nodes, prints "ready" with the time that took, and works until it is interrupted; then it removes them, unless told to keep them.
// Once a second, when something changed, it prints how many pods run and how many writes were made. What it costs the API server is what as many node
// agents cost: one watch for pods here where they have one each, so watches are the part that is not measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// options are the command line.
type options struct {
	nodes, zones, writers    int
	prefix                   string
	start, stop, lease, beat time.Duration
	keep                     bool
	cpu, memory              string
}

func main() {
	var o options
	kubeconfig := flag.String("kubeconfig", os.Getenv("KUBECONFIG"), "a way to the API server, as an administrator")
	flag.IntVar(&o.nodes, "nodes", 1000, "how many nodes")
	flag.IntVar(&o.zones, "zones", 10, "how many zones they are in")
	flag.IntVar(&o.writers, "writers", 64, "writes at a time")
	flag.StringVar(&o.prefix, "prefix", "hollow", "what the nodes' names begin with")
	flag.DurationVar(&o.start, "start", 100*time.Millisecond, "how long a pod takes to start")
	flag.DurationVar(&o.stop, "stop", 100*time.Millisecond, "how long a pod takes to stop")
	flag.DurationVar(&o.lease, "lease", 10*time.Second, "how often a Lease is renewed")
	flag.DurationVar(&o.beat, "status", 5*time.Minute, "how often a node's status is written though nothing changed")
	flag.StringVar(&o.cpu, "cpu", "32", "each node's CPU")
	flag.StringVar(&o.memory, "memory", "64Gi", "each node's memory")
	flag.BoolVar(&o.keep, "keep", false, "leave the nodes behind at the end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, o); err != nil {
		fmt.Fprintln(os.Stderr, "hollow:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

func run(ctx context.Context, kubeconfig string, o options) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}
	config.QPS = -1
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.UserAgent = "hollow"
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	c := &cluster{api: api, o: o, places: make(chan struct{}, o.writers), pods: map[string]*pod{}}
	started := time.Now()
	if err := c.each(ctx, c.join); err != nil {
		return errors.Join(err, c.leave())
	}
	say("ready: %d nodes after %v\n", o.nodes, time.Since(started).Round(time.Millisecond))
	var wg sync.WaitGroup
	wg.Go(func() { c.renew(ctx) })
	wg.Go(func() { c.progress(ctx) })
	err = c.follow(ctx)
	wg.Wait()
	return errors.Join(err, c.leave())
}

func say(format string, args ...any) { _, _ = fmt.Fprintf(os.Stdout, format, args...) }
