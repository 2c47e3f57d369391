package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

var machine = Machine{CPUs: 4, Memory: 8 << 30, Storage: 100 << 30, HugePages: map[string]int64{"2Mi": 1 << 30},
	Info: corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: "amd64"}}

func healthy() Facts {
	return Facts{Machine: machine, Gauges: Gauges{MemoryAvailable: 1 << 30, Disk: 100, DiskFree: 50, Inodes: 100, InodeFree: 50, PIDs: 1000, PIDsUsed: 10},
		Kept: corev1.ResourceList{"memory": resource.MustParse("100Mi"), "ephemeral-storage": resource.MustParse("10Gi")}, MaxPods: 110, Name: "n", IPs: []string{"10.0.0.1"}, Port: 10250}
}

// pass lets time go by and everything happen that is due.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func conditions(st corev1.NodeStatus) string {
	var out []string
	for _, c := range st.Conditions {
		out = append(out, fmt.Sprintf("%s=%s", c.Type, c.Status))
	}
	return strings.Join(out, " ")
}

func TestConditions(t *testing.T) {
	ok := "MemoryPressure=False DiskPressure=False PIDPressure=False Ready=True"
	for name, tc := range map[string]struct {
		change func(*Facts)
		want   string
	}{
		"healthy":   {func(*Facts) {}, ok},
		"memory":    {func(f *Facts) { f.Pressure = map[corev1.NodeConditionType]bool{corev1.NodeMemoryPressure: true} }, strings.Replace(ok, "MemoryPressure=False", "MemoryPressure=True", 1)},
		"disk":      {func(f *Facts) { f.Pressure = map[corev1.NodeConditionType]bool{corev1.NodeDiskPressure: true} }, strings.Replace(ok, "DiskPressure=False", "DiskPressure=True", 1)},
		"processes": {func(f *Facts) { f.Pressure = map[corev1.NodeConditionType]bool{corev1.NodePIDPressure: true} }, strings.Replace(ok, "PIDPressure=False", "PIDPressure=True", 1)},
		"network":   {func(f *Facts) { f.NotReady = errors.New("waiting for pod CIDR") }, strings.Replace(ok, "Ready=True", "Ready=False", 1)},
	} {
		f := healthy()
		tc.change(&f)
		if got := conditions(Status(f, corev1.NodeStatus{})); got != tc.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestTimesOfConditions(t *testing.T) {
	f := healthy()
	f.Now = time.Unix(1000, 0)
	old := Status(f, corev1.NodeStatus{})
	f.Now, f.NotReady = time.Unix(2000, 0), errors.New("x")
	for _, c := range Status(f, old).Conditions {
		want := int64(1000)
		if c.Type == corev1.NodeReady {
			want = 2000
		}
		if c.LastTransitionTime.Unix() != want || c.LastHeartbeatTime.Unix() != 2000 {
			t.Errorf("%s: transition %d, heartbeat %d", c.Type, c.LastTransitionTime.Unix(), c.LastHeartbeatTime.Unix())
		}
	}
}

func TestAllocatable(t *testing.T) {
	f := healthy()
	f.Reserved = corev1.ResourceList{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("1Gi")}
	st := Status(f, corev1.NodeStatus{})
	for name, want := range map[corev1.ResourceName]string{"cpu": "3500m", "memory": "6044Mi", "ephemeral-storage": "90Gi", "pods": "110", "hugepages-2Mi": "1Gi"} {
		got := st.Allocatable[name]
		if got.Cmp(resource.MustParse(want)) != 0 {
			t.Errorf("%s: %s, want %s", name, got.String(), want)
		}
	}
	if c := st.Capacity.Cpu(); c.Value() != 4 {
		t.Errorf("capacity %s", c)
	}
	f.Reserved = corev1.ResourceList{"cpu": resource.MustParse("9")}
	st = Status(f, corev1.NodeStatus{})
	if left := st.Allocatable.Cpu(); left.Sign() != 0 {
		t.Errorf("more reserved than there is leaves %s", left)
	}
}

func TestMachineIsRead(t *testing.T) {
	m, err := ReadMachine(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if m.CPUs < 1 || m.Memory < 1<<20 || m.Storage < 1<<20 || m.Info.KernelVersion == "" || m.Info.BootID == "" {
		t.Errorf("%+v", m)
	}
	g, err := ReadGauges(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if g.MemoryAvailable < 1<<20 || g.Disk == 0 || g.PIDs < 100 || g.PIDsUsed < 1 {
		t.Errorf("%+v", g)
	}
}

// nodeAPI stores one Node.
type nodeAPI struct {
	mu      sync.Mutex
	node    *corev1.Node
	writes  int
	failing bool
}

var resourceNodes = schema.GroupResource{Resource: "nodes"}

func (a *nodeAPI) Get(context.Context, string) (*corev1.Node, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.node == nil {
		return nil, apierrors.NewNotFound(resourceNodes, "n")
	}
	return a.node.DeepCopy(), nil
}

// seen returns what is stored and how often status was written.
func (a *nodeAPI) seen() (*corev1.Node, int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.node == nil {
		return &corev1.Node{}, a.writes
	}
	return a.node.DeepCopy(), a.writes
}

func (a *nodeAPI) Create(_ context.Context, n *corev1.Node) (*corev1.Node, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.failing:
		return nil, errors.New("connection refused")
	case a.node != nil:
		return nil, apierrors.NewAlreadyExists(resourceNodes, "n")
	}
	a.node = n.DeepCopy()
	return n, nil
}

func (a *nodeAPI) Patch(_ context.Context, _ string, data []byte, subresource ...string) (*corev1.Node, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.failing:
		return nil, errors.New("connection refused")
	case a.node == nil:
		return nil, apierrors.NewNotFound(resourceNodes, "n")
	case len(subresource) == 0:
		return a.node, json.Unmarshal(data, a.node)
	}
	a.writes++
	var n corev1.Node
	err := json.Unmarshal(data, &n)
	a.node.Status = n.Status
	return a.node, err
}

func TestNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &nodeAPI{failing: true}
		facts := healthy()
		facts.NotReady = errors.New("network not ready: waiting for pod CIDR")
		var mu sync.Mutex
		var events []string
		n := New(a, Options{Name: "n", Labels: map[string]string{"x": "y"}, Register: true, StatusEvery: 10 * time.Second, ReportEvery: 5 * time.Minute,
			Facts: func(context.Context) (Facts, error) {
				mu.Lock()
				defer mu.Unlock()
				facts.Now = time.Now()
				return facts, nil
			}},
			func(_, reason, _ string, _ ...any) { mu.Lock(); defer mu.Unlock(); events = append(events, reason) }, zap.NewNop())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()
		pass(time.Minute)
		a.mu.Lock()
		a.failing = false
		a.mu.Unlock()
		pass(lastRetry + time.Second)
		if node, _ := a.seen(); node.Labels["x"] != "y" || node.Labels[corev1.LabelHostname] != "n" || isReady(node.Status) {
			t.Fatalf("%+v", node)
		}
		mu.Lock()
		facts.NotReady = nil
		mu.Unlock()
		n.Poke()
		synctest.Wait()
		node, writes := a.seen()
		mu.Lock()
		last := events[len(events)-1]
		mu.Unlock()
		if !isReady(node.Status) || last != "NodeReady" {
			t.Errorf("%s, last event %s", conditions(node.Status), last)
		}
		pass(4 * time.Minute)
		if _, now := a.seen(); now != writes {
			t.Errorf("%d writes although nothing changed", now-writes)
		}
		pass(2 * time.Minute)
		if _, now := a.seen(); now != writes+1 {
			t.Errorf("%d writes in the reporting period", now-writes)
		}
		a.mu.Lock()
		a.node = nil
		a.mu.Unlock()
		mu.Lock()
		facts.MaxPods = 5
		mu.Unlock()
		pass(30 * time.Second)
		if node, _ := a.seen(); !isReady(node.Status) {
			t.Errorf("a Node that somebody deleted comes back: %+v", node)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestLabelsOfANodeThatIsThere(t *testing.T) {
	a := &nodeAPI{node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"kept": "1"}}}}
	n := New(a, Options{Name: "n", Register: true, Labels: map[string]string{"x": "y"}, Facts: func(context.Context) (Facts, error) { return healthy(), nil }}, nil, zap.NewNop())
	if _, err := n.ensure(t.Context()); err != nil || a.node.Labels["x"] != "y" || a.node.Labels["kept"] != "1" {
		t.Errorf("%v %v", a.node.Labels, err)
	}
}

// leaseAPI stores one Lease and checks that a renewal starts from the newest.
type leaseAPI struct {
	mu    sync.Mutex
	lease *coordinationv1.Lease
	gets  int
	n     int
	fail  error
}

func (a *leaseAPI) Get(context.Context, string, string) (*coordinationv1.Lease, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gets++
	if a.lease == nil {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "leases"}, "n")
	}
	return a.lease.DeepCopy(), a.fail
}

func (a *leaseAPI) store(l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	if a.fail != nil {
		return nil, a.fail
	}
	a.n++
	a.lease = l.DeepCopy()
	a.lease.ResourceVersion = fmt.Sprint(a.n)
	return a.lease.DeepCopy(), nil
}

func (a *leaseAPI) Create(_ context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.store(l)
}

func (a *leaseAPI) Update(_ context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l.ResourceVersion != a.lease.ResourceVersion {
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: "leases"}, "n", errors.New("changed"))
	}
	return a.store(l)
}

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &leaseAPI{}
		l := &Lease{API: a, Node: "n", UID: func() types.UID { return "uid" }, Seconds: 40, Log: zap.NewNop()}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		with := func(f func()) {
			a.mu.Lock()
			defer a.mu.Unlock()
			f()
		}
		pass(95 * time.Second)
		with(func() {
			if a.n != 10 || a.gets != 1 {
				t.Errorf("%d renewals and %d reads in 95 s", a.n, a.gets)
			}
			if s := a.lease.Spec; *s.HolderIdentity != "n" || *s.LeaseDurationSeconds != 40 || a.lease.OwnerReferences[0].UID != "uid" {
				t.Errorf("%+v", a.lease)
			}
			a.lease.ResourceVersion = "somebody else's"
		})
		pass(12 * time.Second)
		with(func() {
			if age := time.Since(a.lease.Spec.RenewTime.Time); age > 11*time.Second {
				t.Errorf("after a conflict the lease is %v old", age)
			}
			a.fail = errors.New("down")
		})
		pass(time.Minute)
		with(func() { a.fail = nil })
		pass(2 * time.Second)
		with(func() {
			if age := time.Since(a.lease.Spec.RenewTime.Time); age > 2*time.Second {
				t.Errorf("after an outage the lease is %v old", age)
			}
		})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestRestartKeepsReady starts the agent of a node that is Ready, whose network takes its time or never comes.
func TestRestartKeepsReady(t *testing.T) {
	for name, tc := range map[string]struct {
		after time.Duration // until the network is ready; 0: never
		want  string        // what was said of the node in its first minute
	}{
		"soon":  {3 * time.Second, "Starting"},
		"never": {0, "Starting NodeNotReady"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &nodeAPI{node: &corev1.Node{Status: Status(healthy(), corev1.NodeStatus{})}}
				began := time.Now()
				var events []string
				n := New(a, Options{Name: "n", StatusEvery: 10 * time.Second, ReportEvery: 5 * time.Minute,
					Facts: func(context.Context) (Facts, error) {
						f := healthy()
						if f.Now = time.Now(); tc.after == 0 || time.Since(began) < tc.after {
							f.NotReady, f.Starting = errors.New("waiting for pod CIDR"), true
						}
						return f, nil
					}},
					func(_, reason, _ string, _ ...any) { events = append(events, reason) }, zap.NewNop())
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- n.Run(ctx) }()
				pass(3 * time.Second)
				n.Poke()
				pass(time.Minute)
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if got := strings.Join(events, " "); got != tc.want {
					t.Errorf("events %s, want %s", got, tc.want)
				}
			})
		})
	}
}

// TestVolumesInUse: the last volume that goes must be said to have gone.
func TestVolumesInUse(t *testing.T) {
	f := healthy()
	for want, list := range map[string][]corev1.UniqueVolumeName{`"volumesInUse":["a"]`: {"a"}, `"volumesInUse":null`: nil} {
		f.InUse = list
		patch, err := statusPatch(Status(f, corev1.NodeStatus{VolumesAttached: []corev1.AttachedVolume{{Name: "a"}}}))
		if err != nil || !strings.Contains(string(patch), want) || strings.Contains(string(patch), "volumesAttached") {
			t.Errorf("got %s %v, want %s", patch, err, want)
		}
	}
}
