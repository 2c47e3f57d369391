package autoscale

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// nodes measures pods where no resource metrics API is served: it asks the agents of their nodes, through the API
// server. CPU is a counter, so a pod's use is known from the second question on.
type nodes struct {
	metrics *metrics

	mu   sync.Mutex // guards seen and last
	seen map[string]reading
	last map[string]counter // by namespace/pod/container
}

// reading is what a node said and when it was asked.
type reading struct {
	at   time.Time
	pods map[string]map[string]usage // by namespace/pod and container
}

type usage struct{ cpu, memory sample }

type counter struct {
	at    time.Time
	nanos uint64
	rate  sample
}

func newNodes(m *metrics) *nodes {
	return &nodes{metrics: m, seen: map[string]reading{}, last: map[string]counter{}}
}

const (
	fresh = 10 * time.Second // how old an answer of a node may be; all autoscalers of one round share it
	slow  = 5 * time.Second  // how long a node may take to answer; the others wait meanwhile
)

// summary is the part of a node's /stats/summary that matters here.
type summary struct {
	Pods []struct {
		PodRef struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"podRef"`
		Containers []struct {
			Name string `json:"name"`
			CPU  *struct {
				Time                 time.Time `json:"time"`
				UsageCoreNanoSeconds *uint64   `json:"usageCoreNanoSeconds"`
			} `json:"cpu"`
			Memory *struct {
				Time            time.Time `json:"time"`
				WorkingSetBytes *uint64   `json:"workingSetBytes"`
			} `json:"memory"`
		} `json:"containers"`
	} `json:"pods"`
}

// resource returns how much of a resource each of the pods, or one container of it, uses.
func (n *nodes) resource(ctx context.Context, pods []*corev1.Pod, name corev1.ResourceName, container string) (map[string]sample, error) {
	out := map[string]sample{}
	var problem error
	for _, pod := range pods {
		if pod.Spec.NodeName == "" {
			continue
		}
		of, err := n.node(ctx, pod.Spec.NodeName)
		if err != nil {
			problem = err // its pods are missing, the others count
			continue
		}
		var sum sample
		found := false
		for c, u := range of[pod.Namespace+"/"+pod.Name] {
			one := u.memory
			if name == corev1.ResourceCPU {
				one = u.cpu
			}
			if (container == "" || c == container) && !one.at.IsZero() {
				sum, found = sample{sum.value + one.value, one.at, one.window}, true
			}
		}
		if found {
			out[pod.Name] = sum
		}
	}
	if len(out) == 0 && problem != nil {
		return nil, problem
	}
	return out, nil
}

// node asks a node, unless it was asked just now.
func (n *nodes) node(ctx context.Context, name string) (map[string]map[string]usage, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if r, ok := n.seen[name]; ok && now.Sub(r.at) < fresh {
		return r.pods, nil
	}
	ctx, stop := context.WithTimeout(ctx, slow)
	defer stop()
	var got summary
	if err := n.metrics.send(ctx, http.MethodGet, path.Join("api/v1/nodes", name, "proxy/stats/summary"), nil, io.Reader(nil), &got); err != nil {
		return nil, fmt.Errorf("ask node %s what its pods use: %w", name, err)
	}
	r := reading{at: now, pods: map[string]map[string]usage{}}
	for _, pod := range got.Pods {
		key := pod.PodRef.Namespace + "/" + pod.PodRef.Name
		r.pods[key] = map[string]usage{}
		for _, c := range pod.Containers {
			var u usage
			if c.CPU != nil && c.CPU.UsageCoreNanoSeconds != nil {
				u.cpu = n.rate(key+"/"+c.Name, c.CPU.Time, *c.CPU.UsageCoreNanoSeconds)
			}
			if c.Memory != nil && c.Memory.WorkingSetBytes != nil {
				u.memory = sample{int64(*c.Memory.WorkingSetBytes) * 1000, c.Memory.Time, 0}
			}
			r.pods[key][c.Name] = u
		}
	}
	n.seen[name] = r
	n.forget(now)
	return r.pods, nil
}

// rate turns a counter into thousandths of a core since the last question. One that fell belongs to a new container.
func (n *nodes) rate(key string, at time.Time, nanos uint64) sample {
	before, ok := n.last[key]
	now := counter{at: at, nanos: nanos}
	if window := at.Sub(before.at); ok && window > 0 && nanos >= before.nanos {
		now.rate = sample{int64(float64(nanos-before.nanos) / float64(window) * 1000), at, window}
	} else if ok && window == 0 {
		now.rate = before.rate // the node has not measured again
	}
	n.last[key] = now
	return now.rate
}

// forget drops what nobody asked about for a while: pods and nodes come and go.
func (n *nodes) forget(now time.Time) {
	for name, r := range n.seen {
		if now.Sub(r.at) > time.Hour {
			delete(n.seen, name)
		}
	}
	for key, c := range n.last {
		if now.Sub(c.at) > time.Hour {
			delete(n.last, key)
		}
	}
}
