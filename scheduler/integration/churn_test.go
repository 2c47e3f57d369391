package integration

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"hardway/shared/client"
	"hardway/shared/testenv"
)

var churn = flag.Duration("churn", 12*time.Second, "how long TestChurn goes on")

const (
	churnNodes   = 20
	churnCPU     = 8 // of each node, in cores
	churnPending = 60
)

// TestChurn creates and deletes pods, cordons, deletes and creates nodes, and kills and replaces the scheduler again and
// again, for a while also running two. From the record of a watch it then checks that no node was ever given more than it
// has, and no pod a second node; and in the end, that no pod was forgotten.
func TestChurn(t *testing.T) {
	env, api := start(t)
	for i := range churnNodes {
		makeNode(t, api, nodeName(i), strconv.Itoa(churnCPU))
	}
	ctx, cancel := context.WithCancel(t.Context())
	record := follow(ctx, t, api)
	storm := &storm{t: t, api: api, random: rand.New(rand.NewPCG(1, uint64(time.Now().Unix()))), pods: record}
	var wg sync.WaitGroup
	ports := [2]int{freePort(t), freePort(t)}
	kill := startSchedulerAt(t, env, ports[0])
	deadline := time.Now().Add(*churn)
	wg.Go(func() { restarts(t, env, ports, kill, deadline) })
	for n := 0; time.Now().Before(deadline) && !t.Failed(); n++ {
		storm.step(n)
	}
	wg.Wait()
	storm.calm()
	startSchedulerAt(t, env, freePort(t))
	record.awaitAllBound(t)
	cancel()
	record.done.Wait()
	bound, most := record.tally()
	t.Logf("%s: %d pods made, %d bound, at most %d m CPU of %d on a node; nodes deleted %d times, cordoned %d times", *churn, storm.made, bound, most, churnCPU*1000, storm.deleted, storm.cordoned)
	if bound < 10 {
		t.Errorf("only %d pods were bound", bound)
	}
}

func nodeName(i int) string { return fmt.Sprint("node-", i) }

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// restarts kills the scheduler and starts it anew, each time in another way: the same again, one more before the old one ends, and a pause
// between the two.
func restarts(t *testing.T, env *testenv.Env, ports [2]int, kill func(), deadline time.Time) {
	every := min(20*time.Second, *churn/5)
	for n := 1; time.Now().Before(deadline); n++ {
		select {
		case <-t.Context().Done():
			return
		case <-time.After(every):
		}
		switch n % 3 {
		case 0:
			kill()
			kill = startSchedulerAt(t, env, ports[0])
		case 1:
			next := startSchedulerAt(t, env, ports[1])
			time.Sleep(every / 4) // both run
			kill()
			kill = next
			ports[0], ports[1] = ports[1], ports[0]
		case 2:
			kill()
			time.Sleep(every / 4) // none runs
			kill = startSchedulerAt(t, env, ports[0])
		}
	}
	kill()
}

// storm changes the cluster at random.
type storm struct {
	t                       *testing.T
	api                     *client.API
	random                  *rand.Rand
	pods                    *recording
	made, deleted, cordoned int
}

func (s *storm) step(n int) {
	node := nodeName(s.random.IntN(churnNodes))
	switch s.random.IntN(20) {
	case 0:
		s.ok(client.Nodes.Delete(s.t.Context(), s.api, "", node, metav1.DeleteOptions{}))
		s.deleted++
		makeNode(s.t, s.api, node, strconv.Itoa(churnCPU))
	case 1:
		s.cordon(node, s.random.IntN(2) == 0)
	case 2, 3, 4, 5, 6, 7, 8, 9:
		if name := s.pods.some(s.random); name != "" {
			s.ok(client.Pods.Delete(s.t.Context(), s.api, "default", name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}))
		}
	default:
		if s.pods.pending() < churnPending {
			makePod(s.t, s.api, fmt.Sprint("p", n), fmt.Sprint(1+s.random.IntN(3)))
			s.made++
		}
	}
}

// ok fails the test for an error that cannot come from a race with the scheduler or oneself.
func (s *storm) ok(err error) {
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		s.t.Error(err)
	}
}

func (s *storm) cordon(name string, to bool) {
	n, err := client.Nodes.Get(s.t.Context(), s.api, "", name)
	if err == nil && n.Spec.Unschedulable != to {
		n.Spec.Unschedulable = to
		_, err = client.Nodes.Update(s.t.Context(), s.api, n)
		s.cordoned++
	}
	s.ok(err)
}

// calm makes room for all pods that wait: from now on each must get a node.
func (s *storm) calm() {
	for i := range churnNodes {
		s.cordon(nodeName(i), false)
	}
	for _, name := range s.pods.names(func(p *corev1.Pod) bool { return p.Spec.NodeName != "" }) {
		s.ok(client.Pods.Delete(s.t.Context(), s.api, "default", name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}))
	}
}

// recording is what a watch of all pods has told, checked event by event in the order of the API.
type recording struct {
	done sync.WaitGroup

	mu    sync.Mutex
	now   map[string]*corev1.Pod // guarded by mu, as are the others
	used  map[string]int64       // by node
	bound int
	most  int64
	woken chan struct{} // holds one when something changed
}

// follow starts recording. The watch is taken up again where it was when it ends.
func follow(ctx context.Context, t *testing.T, api *client.API) *recording {
	t.Helper()
	r := &recording{now: map[string]*corev1.Pod{}, used: map[string]int64{}, woken: make(chan struct{}, 1)}
	list, err := client.Pods.List(ctx, api, "default", metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	version := list.ResourceVersion
	r.done.Go(func() {
		for ctx.Err() == nil {
			w, err := client.Pods.Watch(ctx, api, "default", metav1.ListOptions{ResourceVersion: version})
			if err != nil {
				if ctx.Err() == nil {
					t.Error(err)
				}
				return
			}
			for e := range w.ResultChan() {
				p, is := e.Object.(*corev1.Pod)
				if !is {
					if ctx.Err() == nil {
						t.Errorf("the watch said %v", e.Object)
					}
					return
				}
				version = p.ResourceVersion
				if wrong := r.take(e.Type, p); wrong != "" {
					t.Error(wrong)
				}
			}
		}
	})
	return r
}

func cpuOf(p *corev1.Pod) int64 {
	q := p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU]
	return q.MilliValue()
}

// take notes one event and returns what is wrong with it.
func (r *recording) take(kind watch.EventType, p *corev1.Pod) (wrong string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() {
		select {
		case r.woken <- struct{}{}:
		default:
		}
	}()
	old := r.now[p.Name]
	if kind == watch.Deleted {
		delete(r.now, p.Name)
		if old != nil && old.Spec.NodeName != "" {
			r.used[old.Spec.NodeName] -= cpuOf(old)
		}
		return ""
	}
	r.now[p.Name] = p
	was := ""
	if old != nil && old.UID == p.UID {
		was = old.Spec.NodeName
	}
	switch node := p.Spec.NodeName; {
	case was == node:
	case was != "":
		return fmt.Sprintf("pod %s was bound to %s and then to %q", p.Name, was, node)
	default:
		r.bound++
		r.used[node] += cpuOf(p)
		r.most = max(r.most, r.used[node])
		if r.used[node] > churnCPU*1000 {
			return fmt.Sprintf("%d m CPU on %s, which has %d", r.used[node], node, churnCPU*1000)
		}
	}
	return ""
}

func (r *recording) names(which func(*corev1.Pod) bool) (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, p := range r.now {
		if which(p) {
			out = append(out, name)
		}
	}
	return out
}

func (r *recording) pending() int {
	return len(r.names(func(p *corev1.Pod) bool { return p.Spec.NodeName == "" }))
}

// some is the name of a pod, "" when there is none.
func (r *recording) some(random *rand.Rand) string {
	all := r.names(func(*corev1.Pod) bool { return true })
	if len(all) == 0 {
		return ""
	}
	return all[random.IntN(len(all))]
}

func (r *recording) tally() (bound int, most int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bound, r.most
}

// awaitAllBound waits until no pod is without a node.
func (r *recording) awaitAllBound(t *testing.T) {
	t.Helper()
	late := time.After(2 * time.Minute)
	for {
		waiting := r.names(func(p *corev1.Pod) bool { return p.Spec.NodeName == "" })
		if len(waiting) == 0 {
			return
		}
		select {
		case <-r.woken:
		case <-late:
			t.Fatalf("forgotten: %v", waiting)
		}
	}
}
