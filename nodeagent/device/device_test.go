package device

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"hardway/nodeagent/device/devicetest"
)

const gpu = "example.com/gpu"

// bench is a node.
type bench struct {
	t    *testing.T
	root string
	p    *Plugins
	stop func()
}

func setUp(t *testing.T) *bench {
	t.Helper()
	root, err := os.MkdirTemp("/tmp", "dev") // paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, root: root}
	b.agent()
	t.Cleanup(func() {
		b.stop()
		os.RemoveAll(root) //nolint:errcheck // a test's leavings
	})
	return b
}

// agent starts the node's side, as after it was killed.
func (b *bench) agent() {
	b.t.Helper()
	if b.stop != nil {
		b.stop()
	}
	b.p = &Plugins{Root: b.root, Changed: func() {}, Log: zap.NewNop()}
	if err := b.p.Open(); err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	p := b.p
	go func() { done <- p.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	}
}

// plugin starts a plugin and registers it.
func (b *bench) plugin(options *api.DevicePluginOptions, devices ...string) *devicetest.Plugin {
	b.t.Helper()
	dir := filepath.Join(b.root, folder)
	b.eventually("the folder is there", func() bool { _, err := os.Stat(dir); return err == nil })
	f, err := devicetest.Start(b.t.Context(), dir, gpu, options, devices...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(f.Stop)
	b.count(len(devices), len(devices))
	return f
}

func (b *bench) count(capacity, allocatable int) {
	b.t.Helper()
	b.eventually("the node's numbers", func() bool {
		c, a := b.p.Resources()
		have, can := c[gpu], a[gpu]
		return have.Value() == int64(capacity) && can.Value() == int64(allocatable)
	})
}

func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	for until := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(until) {
			b.t.Fatal("not: " + what)
		}
		select {
		case <-b.t.Context().Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func container(name string, n string) corev1.Container {
	return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{gpu: resource.MustParse(n), "cpu": resource.MustParse("1")}}}
}

func pod(uid types.UID, c ...corev1.Container) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}, Spec: corev1.PodSpec{Containers: c}}
}

// gets is what a container is given.
func (b *bench) gets(p *corev1.Pod, c corev1.Container) string {
	b.t.Helper()
	g, err := b.p.Allocate(b.t.Context(), p, &c)
	if err != nil {
		return err.Error()
	}
	if len(g.Devices) != 1 || g.Devices[0].Permissions != "rw" {
		b.t.Errorf("given %+v", g)
	}
	return g.Env["GPUS"]
}

func (b *bench) expect(want, got string) {
	b.t.Helper()
	if got != want {
		b.t.Errorf("got %q, want %q", got, want)
	}
}

func TestDevices(t *testing.T) {
	b := setUp(t)
	one := container("c", "1")
	f := b.plugin(nil, "a", "b", "c")
	b.expect("a", b.gets(pod("1", one), one))
	b.expect("a", b.gets(pod("1", one), one))
	two := container("c", "2")
	b.expect("b,c", b.gets(pod("2", two), two))
	b.expect("example.com/gpu: 1 devices are asked for, 0 are free", b.gets(pod("3", one), one))
	if err := b.p.Release("2"); err != nil {
		t.Fatal(err)
	}
	f.Offer("a!", "b!", "c")
	b.count(3, 1)
	b.expect("c", b.gets(pod("3", one), one))
	b.expect("a", b.gets(pod("1", one), one)) // broken, but its own
}

func TestRestart(t *testing.T) {
	b := setUp(t)
	one := container("c", "1")
	f := b.plugin(nil, "a", "b")
	b.expect("a", b.gets(pod("1", one), one))
	b.agent()
	b.expect("a", b.gets(pod("1", one), one)) // without its plugin
	b.expect("example.com/gpu: its device plugin is not registered", b.gets(pod("2", one), one))
	f.Stop()
	f = b.plugin(nil, "a", "b")
	b.expect("b", b.gets(pod("2", one), one))
	f.Stop()
	b.count(2, 0)
}

func TestInitContainers(t *testing.T) {
	b := setUp(t)
	b.plugin(nil, "a", "b", "c")
	first, main, side := container("init", "2"), container("c", "2"), container("side", "1")
	side.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	p := pod("1", main)
	p.Spec.InitContainers = []corev1.Container{side, first}
	b.expect("a", b.gets(p, side))
	b.expect("b,c", b.gets(p, first))
	b.expect("b,c", b.gets(p, main))
}

func TestOptions(t *testing.T) {
	b := setUp(t)
	f := b.plugin(&api.DevicePluginOptions{PreStartRequired: true, GetPreferredAllocationAvailable: true}, "a", "b", "c")
	one := container("c", "1")
	f.Prefer("c")
	b.expect("c", b.gets(pod("1", one), one))
	f.Prefer("c") // it is not to be had
	b.expect("a", b.gets(pod("2", one), one))
	b.gets(pod("1", one), one)
	if want, got := []string{"c", "a", "c"}, f.Started(); !slices.Equal(got, want) {
		t.Errorf("started %v, want %v", got, want)
	}
}

func TestRefused(t *testing.T) {
	s := &server{p: &Plugins{}}
	for want, r := range map[string]*api.RegisterRequest{
		`version "v1"`: {Version: "v1"}, "no name of an extended resource": {Version: api.Version, ResourceName: "cpu"},
		"no name of a socket": {Version: api.Version, ResourceName: gpu, Endpoint: "../x"},
	} {
		if _, err := s.Register(t.Context(), r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
