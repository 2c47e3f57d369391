// Package device gives containers the devices that device plugins (v1beta1) offer: extended resources such as
// example.com/gpu, each with a number of devices that the plugin names.
//
//	plugin ─Register─▶ device-plugins/kubelet.sock        the plugin's own socket ◀─ListAndWatch, Allocate─ Plugins
//
// Which container has which devices is on disk before the container is started, together with what the plugin wants done
// for it, and goes when the pod is gone: a container that is started again, by whatever agent, has the devices it had, and
// no device is given to two. A plugin that is gone leaves its resource with a capacity and nothing to allocate; devices
// that are not healthy are not given to anybody new.
//
// Writes: the socket and the file of assignments in device-plugins below the root directory.
package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	folder      = "device-plugins"
	assignments = "hardway_assignments.json"
	callLimit   = 10 * time.Second
	startLimit  = api.KubeletPreStartContainerRPCTimeoutInSecs * time.Second
)

// Given is what a container gets for its devices.
type Given struct {
	Env     map[string]string `json:"env,omitempty"`
	Mounts  []*api.Mount      `json:"mounts,omitempty"`
	Devices []*api.DeviceSpec `json:"devices,omitempty"`
}

// assignment is what one container has of one resource.
type assignment struct {
	Devices []string `json:"devices"`
	Given   Given    `json:"given"`
}

// containers are the assignments of a pod, by container and resource.
type containers map[string]map[string]assignment

// state is what is kept on disk.
type state struct {
	Resources []string                 `json:"resources"` // that plugins have registered; they may do so again
	Pods      map[types.UID]containers `json:"pods"`
}

// Plugins are the device plugins of the node, and what has been given out of their devices.
type Plugins struct {
	Root    string // such as /var/lib/kubelet
	Changed func() // called when there are more or fewer devices
	Log     *zap.Logger

	mu     sync.Mutex        // guards all below
	all    map[string]*offer // by resource; also those that have gone
	pods   map[types.UID]containers
	giving map[string]*sync.Mutex // by resource: one allocation at a time
}

// Open reads what has been given out.
func (p *Plugins) Open() error {
	p.all, p.pods, p.giving = map[string]*offer{}, map[types.UID]containers{}, map[string]*sync.Mutex{}
	data, err := os.ReadFile(p.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s := state{Pods: p.pods}
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return fmt.Errorf("read which devices have been given out: %w", err)
	}
	for _, name := range s.Resources {
		p.all[name] = &offer{resource: name}
	}
	return nil
}

func (p *Plugins) file() string { return filepath.Join(p.Root, folder, assignments) }

// save needs p.mu.
func (p *Plugins) save() error {
	data, err := json.Marshal(state{slices.Sorted(maps.Keys(p.all)), p.pods})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.file()), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(p.file()+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(p.file()+".new", p.file())
}

// Resources returns how many devices the node has of each resource, and how many of them work.
func (p *Plugins) Resources() (capacity, allocatable corev1.ResourceList) {
	p.mu.Lock()
	defer p.mu.Unlock()
	capacity, allocatable = corev1.ResourceList{}, corev1.ResourceList{}
	for name, r := range p.all {
		n := corev1.ResourceName(name)
		capacity[n] = *resource.NewQuantity(int64(len(r.devices)), resource.DecimalSI)
		allocatable[n] = *resource.NewQuantity(int64(len(r.healthy())), resource.DecimalSI)
	}
	return capacity, allocatable
}

// Allocate returns what a container gets for the devices that it asks for, choosing them if it has none yet. It is called
// before every start of the container.
func (p *Plugins) Allocate(ctx context.Context, pod *corev1.Pod, c *corev1.Container) (Given, error) {
	out := Given{Env: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(c.Resources.Limits)) {
		want := c.Resources.Limits[name]
		if want.IsZero() || !p.concerns(pod.UID, c.Name, string(name)) {
			continue
		}
		a, err := p.allocate(ctx, pod, c, string(name), int(want.Value()))
		if err != nil {
			return Given{}, fmt.Errorf("%s: %w", name, err)
		}
		maps.Copy(out.Env, a.Given.Env)
		out.Mounts = append(out.Mounts, a.Given.Mounts...)
		out.Devices = append(out.Devices, a.Given.Devices...)
	}
	return out, nil
}

// concerns says whether a resource is one of devices: other extended resources are numbers and no more.
func (p *Plugins) concerns(uid types.UID, container, name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, has := p.pods[uid][container][name]
	return has || p.all[name] != nil
}

// allocate finds the container's devices of one resource, or gives it some, and tells the plugin that it starts.
func (p *Plugins) allocate(ctx context.Context, pod *corev1.Pod, c *corev1.Container, name string, n int) (assignment, error) {
	a, err := p.assign(ctx, pod, c, name, n)
	if err != nil {
		return a, err
	}
	p.mu.Lock()
	r := p.all[name]
	p.mu.Unlock()
	if r == nil || r.client == nil {
		return a, nil // what it has stays its own
	}
	return a, r.preStart(ctx, a.Devices)
}

// assign makes the choice, which is on disk before it is used.
func (p *Plugins) assign(ctx context.Context, pod *corev1.Pod, c *corev1.Container, name string, n int) (assignment, error) {
	release := p.turn(name)
	defer release()
	p.mu.Lock()
	a, has := p.pods[pod.UID][c.Name][name]
	r := p.all[name]
	taken, reusable := p.taken(pod, c.Name, name)
	var healthy []string
	if r != nil {
		healthy = r.healthy()
	}
	p.mu.Unlock()
	switch {
	case has:
		return a, nil
	case r == nil || r.client == nil:
		return a, errors.New("its device plugin is not registered")
	}
	a, err := r.give(ctx, n, healthy, taken, reusable)
	if err != nil {
		return a, err
	}
	if err := p.keep(pod.UID, c.Name, name, a); err != nil {
		return a, fmt.Errorf("write down which devices are given: %w", err)
	}
	return a, nil
}

// turn waits for the other allocations of a resource; calls to its plugin end after a while.
func (p *Plugins) turn(name string) (release func()) {
	p.mu.Lock()
	l := p.giving[name]
	if l == nil {
		l = &sync.Mutex{}
		p.giving[name] = l
	}
	p.mu.Unlock()
	l.Lock()
	return l.Unlock
}

// taken are the devices that somebody has; reusable those of this pod's init containers that have had their turn, which
// a container that comes after them takes first. The caller holds p.mu.
func (p *Plugins) taken(pod *corev1.Pod, container, name string) (taken, reusable map[string]bool) {
	taken, reusable = map[string]bool{}, map[string]bool{}
	passing := before(pod, container)
	for uid, of := range p.pods {
		for c, resources := range of {
			for _, id := range resources[name].Devices {
				if uid == pod.UID && passing[c] {
					reusable[id] = true
				} else {
					taken[id] = true
				}
			}
		}
	}
	maps.DeleteFunc(reusable, func(id string, _ bool) bool { return taken[id] })
	return taken, reusable
}

// before are the pod's init containers that have ended when a container starts. Sidecars stay.
func before(pod *corev1.Pod, container string) map[string]bool {
	out := map[string]bool{}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.Name == container {
			break
		}
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			out[c.Name] = true
		}
	}
	return out
}

func (p *Plugins) keep(uid types.UID, container, name string, a assignment) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pods[uid] == nil {
		p.pods[uid] = containers{}
	}
	if p.pods[uid][container] == nil {
		p.pods[uid][container] = map[string]assignment{}
	}
	p.pods[uid][container][name] = a
	return p.save()
}

// Release takes back what a pod has. It must not run any more.
func (p *Plugins) Release(uid types.UID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pods[uid] == nil {
		return nil
	}
	delete(p.pods, uid)
	return p.save()
}

// Pods are those that have devices.
func (p *Plugins) Pods() []types.UID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.pods))
}
