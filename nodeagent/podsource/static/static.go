// Package static runs the pods whose manifests lie in a folder of the node, also while there is no apiserver: that is how
// a control plane can run on its own nodes. Every such pod is shown in the API by a mirror pod that this package makes
// and keeps: deleting the mirror deletes no pod, deleting the file does.
//
// Reads: *.yaml, *.yml and *.json in the folder, when they change. Writes: mirror pods of this node. A file that cannot be
// read is reported and leaves the pod that it described before as it is: a half-written manifest must stop nothing.
package static

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// Annotations by which static pods and their mirrors are known.
const (
	Source = "kubernetes.io/config.source"
	Mirror = "kubernetes.io/config.mirror"
	Hash   = "kubernetes.io/config.hash"
)

// maxManifest bounds a file.
const maxManifest = 1 << 20

// Workers take what is wanted.
type Workers interface {
	Update(pod *corev1.Pod)
	Remove(uid types.UID)
}

// API is where mirrors are kept.
type API interface {
	Get(namespace, name string) (*corev1.Pod, bool) // from the watch
	Mirrors() iter.Seq[*corev1.Pod]                 // of this node, from the watch
	Create(ctx context.Context, pod *corev1.Pod) error
	Delete(ctx context.Context, pod *corev1.Pod) error
	Node() *corev1.Node // nil until registered
}

// Pods watches the folder.
type Pods struct {
	Dir      string
	NodeName string
	Every    time.Duration // the folder is read at least this often
	Workers  Workers
	API      API
	Log      *zap.Logger

	wake  chan struct{}
	files map[string]*corev1.Pod // by file
}

// New returns an empty set.
func New(dir, node string, every time.Duration, w Workers, api API, log *zap.Logger) *Pods {
	return &Pods{Dir: dir, NodeName: node, Every: every, Workers: w, API: api, Log: log, wake: make(chan struct{}, 1), files: map[string]*corev1.Pod{}}
}

// MirrorChanged says that a mirror pod in the API may need attention.
func (p *Pods) MirrorChanged() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// IsMirror says whether a pod in the API only shows a static one.
func IsMirror(pod *corev1.Pod) bool { return pod.Annotations[Mirror] != "" }

// Run follows the folder until ctx ends.
func (p *Pods) Run(ctx context.Context) error {
	var changes chan fsnotify.Event
	if w, err := fsnotify.NewWatcher(); err == nil {
		defer w.Close()
		if err := w.Add(p.Dir); err != nil {
			p.Log.Warn("manifest folder is not watched, only read now and then", zap.String("dir", p.Dir), zap.Error(err))
		}
		changes = w.Events
	}
	tick := time.NewTicker(p.Every)
	defer tick.Stop()
	for {
		p.look()
		if err := p.mirror(ctx); err != nil && ctx.Err() == nil {
			p.Log.Warn("mirror pods", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		case <-p.wake:
		case <-tick.C:
		}
	}
}

// look compares the folder with what was there before and tells the workers.
func (p *Pods) look() {
	entries, err := os.ReadDir(p.Dir)
	if err != nil {
		p.Log.Warn("manifest folder not read", zap.String("dir", p.Dir), zap.Error(err))
		return
	}
	seen := map[string]bool{}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			continue
		}
		seen[name] = true
		pod, err := read(filepath.Join(p.Dir, name), p.NodeName)
		if err != nil {
			p.Log.Warn("manifest not usable", zap.String("file", name), zap.Error(err))
			continue
		}
		old := p.files[name]
		if old != nil && old.UID == pod.UID {
			continue
		}
		if old != nil {
			p.Workers.Remove(old.UID)
		}
		p.files[name] = pod
		p.Workers.Update(pod)
	}
	for name, pod := range p.files {
		if !seen[name] {
			p.Workers.Remove(pod.UID)
			delete(p.files, name)
		}
	}
}

func read(path, node string) (*corev1.Pod, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxManifest || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a file of at most %d bytes", maxManifest)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(data, node)
}

// Parse reads a manifest and completes it as the API would: for this node, with an identity that follows from its content.
func Parse(data []byte, node string) (*corev1.Pod, error) {
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict(data, &pod); err != nil {
		return nil, err
	}
	switch {
	case pod.Kind != "Pod" || pod.APIVersion != "v1":
		return nil, fmt.Errorf("is %s %s, must be v1 Pod", pod.APIVersion, pod.Kind)
	case pod.Name == "" || len(pod.Spec.Containers) == 0:
		return nil, fmt.Errorf("the pod has no name or no container")
	case pod.Spec.ServiceAccountName != "" && pod.Spec.ServiceAccountName != "default":
		return nil, fmt.Errorf("spec.serviceAccountName: a static pod may not use a service account")
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Secret != nil || v.ConfigMap != nil || v.Projected != nil || v.PersistentVolumeClaim != nil {
			return nil, fmt.Errorf("spec.volumes[%d]: a static pod may not refer to API objects", i)
		}
	}
	sum := sha256.Sum256(append([]byte(node+"\x00"), data...))
	hash := hex.EncodeToString(sum[:16])
	pod.UID = types.UID(hash)
	pod.Name += "-" + node
	if pod.Namespace == "" {
		pod.Namespace = metav1.NamespaceDefault
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[Source], pod.Annotations[Hash] = "file", hash
	pod.Spec.NodeName = node
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending}
	complete(&pod)
	return &pod, nil
}

// complete fills in the defaults that the rest of the agent relies on.
func complete(pod *corev1.Pod) {
	s := &pod.Spec
	if s.RestartPolicy == "" {
		s.RestartPolicy = corev1.RestartPolicyAlways
	}
	if s.DNSPolicy == "" {
		s.DNSPolicy = corev1.DNSClusterFirst
	}
	if s.TerminationGracePeriodSeconds == nil {
		s.TerminationGracePeriodSeconds = new(int64(corev1.DefaultTerminationGracePeriodSeconds))
	}
	if s.EnableServiceLinks == nil {
		s.EnableServiceLinks = new(true)
	}
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			completeContainer(&list[i], s.HostNetwork)
		}
	}
	for i := range s.Volumes {
		if h := s.Volumes[i].HostPath; h != nil && h.Type == nil {
			h.Type = new(corev1.HostPathUnset)
		}
	}
}

func completeContainer(c *corev1.Container, hostNetwork bool) {
	if c.ImagePullPolicy == "" {
		c.ImagePullPolicy = corev1.PullIfNotPresent
		if strings.HasSuffix(c.Image, ":latest") || !strings.ContainsAny(c.Image[strings.LastIndex(c.Image, "/")+1:], ":@") {
			c.ImagePullPolicy = corev1.PullAlways
		}
	}
	if c.TerminationMessagePolicy == "" {
		c.TerminationMessagePolicy = corev1.TerminationMessageReadFile
	}
	for i := range c.Ports {
		if c.Ports[i].Protocol == "" {
			c.Ports[i].Protocol = corev1.ProtocolTCP
		}
		if hostNetwork && c.Ports[i].HostPort == 0 {
			c.Ports[i].HostPort = c.Ports[i].ContainerPort
		}
	}
	for name, q := range c.Resources.Limits {
		if _, ok := c.Resources.Requests[name]; !ok {
			if c.Resources.Requests == nil {
				c.Resources.Requests = corev1.ResourceList{}
			}
			c.Resources.Requests[name] = q
		}
	}
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if p == nil {
			continue
		}
		for _, d := range []struct {
			field *int32
			value int32
		}{{&p.TimeoutSeconds, 1}, {&p.PeriodSeconds, 10}, {&p.SuccessThreshold, 1}, {&p.FailureThreshold, 3}} {
			if *d.field == 0 {
				*d.field = d.value
			}
		}
		if g := p.HTTPGet; g != nil {
			if g.Scheme == "" {
				g.Scheme = corev1.URISchemeHTTP
			}
			if g.Path == "" {
				g.Path = "/"
			}
		}
	}
}

// mirror makes the mirrors those of the pods there are: it makes missing ones, replaces outdated ones, removes others.
func (p *Pods) mirror(ctx context.Context) error {
	node := p.API.Node()
	if node == nil {
		return nil // the node's registration pokes us
	}
	wanted := map[types.NamespacedName]bool{}
	for _, pod := range p.files {
		key := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
		wanted[key] = true
		have, ok := p.API.Get(pod.Namespace, pod.Name)
		if ok && have.Annotations[Mirror] == string(pod.UID) && have.DeletionTimestamp == nil {
			continue
		}
		if ok {
			if err := p.API.Delete(ctx, have); err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
		if err := p.API.Create(ctx, mirrorOf(pod, node)); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("make mirror of static pod %s: %w", key, err)
		}
	}
	for have := range p.API.Mirrors() {
		if wanted[types.NamespacedName{Namespace: have.Namespace, Name: have.Name}] {
			continue
		}
		if err := p.API.Delete(ctx, have); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

func mirrorOf(pod *corev1.Pod, node *corev1.Node) *corev1.Pod {
	out := pod.DeepCopy()
	out.UID, out.ResourceVersion = "", ""
	out.Status = corev1.PodStatus{}
	out.Annotations[Mirror] = string(pod.UID)
	out.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID, Controller: new(true),
	}}
	return out
}
