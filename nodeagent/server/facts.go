package server

import (
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/node"
	"hardway/nodeagent/plan"
	"hardway/nodeagent/podsource/fields"
	"hardway/nodeagent/podworker"
	"hardway/nodeagent/podworker/compose"
	"hardway/shared/client"
)

// facts is what the Node's status is computed from.
func (a *agent) facts(context.Context) (node.Facts, error) {
	gauges, err := node.ReadGauges(a.cfg.RootDir)
	if err != nil {
		return node.Facts{}, err
	}
	list, err := a.images.nodeImages(maxNodeImages)
	if err != nil {
		return node.Facts{}, err
	}
	notReady := *a.ready.Load()
	devices, working := a.devices.Resources()
	return node.Facts{
		Starting: errors.Is(notReady, errNoRange), Machine: a.machine, Gauges: gauges, Reserved: a.cfg.Reserved(), Kept: a.kept(), MaxPods: int64(a.cfg.Kubelet.MaxPods), Name: a.cfg.Hostname,
		Pressure: a.evict.Pressure(), Handlers: podworker.Handlers, InUse: a.csi.InUse(), Devices: [2]corev1.ResourceList{devices, working},
		IPs: a.ips, Port: a.cfg.Kubelet.Port, Images: list, NotReady: notReady, Now: time.Now(),
	}, nil
}

func (a *agent) object() *corev1.Node {
	n, ok := a.informer.node.Get("", a.cfg.Hostname)
	if !ok || len(n.Status.Allocatable) == 0 {
		return nil
	}
	return n
}

func (a *agent) nodeUID() types.UID {
	if n, ok := a.informer.node.Get("", a.cfg.Hostname); ok {
		return n.UID
	}
	return ""
}

func (a *agent) settings() plan.Settings {
	s := plan.DefaultSettings()
	if p := a.cfg.Kubelet.CrashLoopBackOff.MaxContainerRestartPeriod; p != nil {
		s.MaxRestartDelay = p.Duration
		s.RestartDelay = min(s.RestartDelay, p.Duration)
	}
	s.NetworkReady = *a.ready.Load() == nil
	return s
}

// composeNode is what is the same for every pod.
func (a *agent) composeNode() compose.Node {
	k := &a.cfg.Kubelet
	n := compose.Node{
		Node: fields.Node{HostIPs: a.ips}, Hostname: a.cfg.Hostname, MemoryCapacity: a.machine.Memory, CgroupRoot: k.CgroupRoot,
		LogDir: k.PodLogsDir, SeccompDir: filepath.Join(a.cfg.RootDir, "seccomp"), SeccompDefault: *k.SeccompDefault,
		CPUQuota: *k.CPUCFSQuota, CPUPeriod: 100_000, LogMaxFiles: int(*k.ContainerLogMaxFiles),
		DNS: compose.DNS{Servers: k.ClusterDNS, Domain: k.ClusterDomain},
	}
	if p := k.CPUCFSQuotaPeriod; p != nil && p.Duration > 0 {
		n.CPUPeriod = uint64(p.Duration.Microseconds())
	}
	if k.PodPidsLimit != nil {
		n.PidsLimit = max(*k.PodPidsLimit, 0)
	}
	if size, err := resource.ParseQuantity(k.ContainerLogMaxSize); err == nil {
		n.LogMaxBytes = size.Value()
	}
	if data, err := os.ReadFile(*k.ResolverConfig); err == nil {
		n.DNS.Host = compose.ParseResolver(string(data))
	}
	if o := a.object(); o != nil {
		n.Allocatable = o.Status.Allocatable
	}
	return n
}

// services goes over the services of a namespace, and the API's own.
func (a *agent) services(namespace string) iter.Seq[*corev1.Service] {
	return func(yield func(*corev1.Service) bool) {
		if s, ok := a.informer.services.Get(metav1.NamespaceDefault, "kubernetes"); ok && !yield(s) {
			return
		}
		for s := range a.informer.services.InNamespace(namespace) {
			if !yield(s) {
				return
			}
		}
	}
}

func (a *agent) patchStatus(ctx context.Context, namespace, name string, patch []byte) (*corev1.Pod, error) {
	patch, err := a.mirrorPatch(namespace, name, patch)
	if err != nil {
		return nil, err
	}
	return client.Pods.Patch(ctx, a.api, namespace, name, types.StrategicMergePatchType, patch, "status")
}

func (a *agent) deletePod(ctx context.Context, pod *corev1.Pod) error {
	return client.Pods.Delete(ctx, a.api, pod.Namespace, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64(0)), Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
}

// note records an event about a pod, or about the container that it names.
func (a *agent) note(pod *corev1.Pod, c *corev1.Container, eventtype, reason, format string, args ...any) {
	ref := &corev1.ObjectReference{
		Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}
	if c != nil {
		ref.FieldPath = fieldPath(pod, c.Name)
	}
	a.events.Event(ref, eventtype, reason, format, args...)
}

func fieldPath(pod *corev1.Pod, container string) string {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == container {
			return "spec.initContainers{" + container + "}"
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == container {
			return "spec.ephemeralContainers{" + container + "}"
		}
	}
	return "spec.containers{" + container + "}"
}
