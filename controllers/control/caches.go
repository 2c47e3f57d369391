package control

import (
	"errors"
	"iter"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/owner"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Names of indexes.
const (
	byOwner   = "owner"   // uid of the controlling object, or orphansOf(namespace)
	byNode    = "node"    // spec.nodeName
	byJob     = "job"     // namespace/name of the Job whose finalizer a pod has
	byService = "service" // namespace/name of the Service of an EndpointSlice
	byClaim   = "claim"   // namespace/name of a claim that a pod uses or a volume names
	byClass   = "class"   // the storage class of a volume, or of a claim that has no volume
)

func orphansOf(namespace string) string { return "orphans of " + namespace }

func ownerIndex(obj any) []string {
	meta, ok := obj.(metav1.Object)
	if !ok {
		return nil
	}
	if uid := owner.ControllerUID(meta); uid != "" {
		return []string{string(uid)}
	}
	return []string{orphansOf(meta.GetNamespace())}
}

// Pods is the cache of all pods, indexed by owner and by node.
type Pods struct{ *client.Informer[corev1.Pod] }

// Pods returns the shared cache of pods. They are trimmed: see trimPod.
func (e Env) Pods() Pods {
	return Pods{client.Pods.Informer(e.Informers, client.Options{Transform: trimPod, Indexes: map[string]func(any) []string{
		byOwner: ownerIndex,
		byClaim: func(obj any) []string {
			if pod, ok := obj.(*corev1.Pod); ok {
				return claimsOf(pod)
			}
			return nil
		},
		byNode: func(obj any) []string {
			if pod, ok := obj.(*corev1.Pod); ok && pod.Spec.NodeName != "" {
				return []string{pod.Spec.NodeName}
			}
			return nil
		},
		byJob: func(obj any) []string {
			if pod, ok := obj.(*corev1.Pod); ok && slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer) && pod.Labels[batchv1.JobNameLabel] != "" {
				return []string{pod.Namespace + "/" + pod.Labels[batchv1.JobNameLabel]}
			}
			return nil
		},
	}})}
}

// trimPod drops what no controller reads and what makes up most of a pod: it is kept for every pod of the cluster. No
// controller writes a pod from the cache, so nothing is lost.
func trimPod(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	pod.ManagedFields = nil
	delete(pod.Annotations, corev1.LastAppliedConfigAnnotation)
	pod.Spec.Volumes = trimVolumes(pod.Spec.Volumes)
	pod.Spec.Affinity = trimAffinity(pod)
	pod.Spec.ImagePullSecrets, pod.Spec.TopologySpreadConstraints = nil, nil
	pod.Spec.HostAliases, pod.Spec.DNSConfig, pod.Spec.SecurityContext = nil, nil, nil
	trimContainers(pod.Spec.Containers)
	trimContainers(pod.Spec.InitContainers)
	pod.Spec.EphemeralContainers, pod.Status.EphemeralContainerStatuses = nil, nil
	sizes := resizing(pod)
	trimStatuses(pod.Status.ContainerStatuses, sizes)
	trimStatuses(pod.Status.InitContainerStatuses, sizes)
	return pod, nil
}

// resizing reports whether the pod's containers may have other resources than their specification says.
func resizing(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodResizeInProgress || c.Type == corev1.PodResizePending
	})
}

// trimVolumes keeps the volumes that are or may be PersistentVolumeClaims, and those of CSI drivers.
func trimVolumes(volumes []corev1.Volume) []corev1.Volume {
	var out []corev1.Volume
	for _, v := range volumes {
		if v.PersistentVolumeClaim != nil || v.Ephemeral != nil || v.CSI != nil {
			out = append(out, v)
		}
	}
	return out
}

// trimAffinity keeps what tells for which node a DaemonSet made a pod, until it is bound, and terms that look at pods of
// other namespaces, which quotas limit.
func trimAffinity(pod *corev1.Pod) *corev1.Affinity {
	has := pod.Spec.Affinity
	if has == nil {
		return nil
	}
	var kept corev1.Affinity
	if ref := metav1.GetControllerOfNoCopy(pod); pod.Spec.NodeName == "" && ref != nil && ref.Kind == "DaemonSet" {
		kept.NodeAffinity = has.NodeAffinity
	}
	if a := has.PodAffinity; a != nil && slices.ContainsFunc(terms(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution), abroad) {
		kept.PodAffinity = a
	}
	if a := has.PodAntiAffinity; a != nil && slices.ContainsFunc(terms(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution), abroad) {
		kept.PodAntiAffinity = a
	}
	if kept == (corev1.Affinity{}) {
		return nil
	}
	return &kept
}

func terms(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) []corev1.PodAffinityTerm {
	all := slices.Clone(required)
	for _, w := range preferred {
		all = append(all, w.PodAffinityTerm)
	}
	return all
}

func abroad(t corev1.PodAffinityTerm) bool {
	return len(t.Namespaces) > 0 || t.NamespaceSelector != nil
}

func trimContainers(containers []corev1.Container) {
	for i, c := range containers {
		containers[i] = corev1.Container{Name: c.Name, Ports: c.Ports, RestartPolicy: c.RestartPolicy, Resources: c.Resources}
	}
}

// trimStatuses keeps how often a container started again, how it ended, and what it waits for; with sizes also the
// resources that it has.
func trimStatuses(statuses []corev1.ContainerStatus, sizes bool) {
	for i, s := range statuses {
		kept := corev1.ContainerStatus{Name: s.Name, RestartCount: s.RestartCount}
		if sizes {
			kept.Resources, kept.AllocatedResources = s.Resources, s.AllocatedResources
		}
		if t := s.State.Terminated; t != nil {
			kept.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: t.ExitCode, Reason: t.Reason, FinishedAt: t.FinishedAt}
		}
		if w := s.State.Waiting; w != nil {
			kept.State.Waiting = &corev1.ContainerStateWaiting{Reason: w.Reason}
		}
		statuses[i] = kept
	}
}

// claimsOf are the claims that a pod uses, as namespace/name.
func claimsOf(pod *corev1.Pod) []string {
	var keys []string
	for _, v := range pod.Spec.Volumes {
		switch {
		case v.PersistentVolumeClaim != nil:
			keys = append(keys, pod.Namespace+"/"+v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			keys = append(keys, pod.Namespace+"/"+pod.Name+"-"+v.Name)
		}
	}
	return keys
}

// Using returns the pods that use a claim.
func (p Pods) Using(claim reconcile.Key) []*corev1.Pod { return p.ByIndex(byClaim, claim.String()) }

// OwnedBy returns the pods whose controller has the uid.
func (p Pods) OwnedBy(uid types.UID) []*corev1.Pod { return p.ByIndex(byOwner, string(uid)) }

// Orphans returns the pods of a namespace that have no controller.
func (p Pods) Orphans(namespace string) []*corev1.Pod {
	return p.ByIndex(byOwner, orphansOf(namespace))
}

// TrackedBy returns the pods that wait for the Job of that name, whichever it is or was, to count them.
func (p Pods) TrackedBy(job reconcile.Key) []*corev1.Pod { return p.ByIndex(byJob, job.String()) }

// OnNode returns the pods that are bound to a node.
func (p Pods) OnNode(node string) []*corev1.Pod { return p.ByIndex(byNode, node) }

// ReplicaSets is the cache of all ReplicaSets, indexed by owner.
type ReplicaSets struct {
	*client.Informer[appsv1.ReplicaSet]
}

// ReplicaSets returns the shared cache of ReplicaSets.
func (e Env) ReplicaSets() ReplicaSets {
	return ReplicaSets{client.ReplicaSets.Informer(e.Informers, client.Options{Indexes: map[string]func(any) []string{byOwner: ownerIndex}})}
}

// OwnedBy returns the ReplicaSets whose controller has the uid.
func (r ReplicaSets) OwnedBy(uid types.UID) []*appsv1.ReplicaSet {
	return r.ByIndex(byOwner, string(uid))
}

// Orphans returns the ReplicaSets of a namespace that have no controller.
func (r ReplicaSets) Orphans(namespace string) []*appsv1.ReplicaSet {
	return r.ByIndex(byOwner, orphansOf(namespace))
}

// Revisions is the cache of all ControllerRevisions, indexed by owner.
type Revisions struct {
	*client.Informer[appsv1.ControllerRevision]
}

// Revisions returns the shared cache of ControllerRevisions.
func (e Env) Revisions() Revisions {
	return Revisions{client.ControllerRevisions.Informer(e.Informers, client.Options{Indexes: map[string]func(any) []string{byOwner: ownerIndex}})}
}

// OwnedBy returns the revisions whose controller has the uid.
func (r Revisions) OwnedBy(uid types.UID) []*appsv1.ControllerRevision {
	return r.ByIndex(byOwner, string(uid))
}

// Orphans returns the revisions of a namespace that have no controller.
func (r Revisions) Orphans(namespace string) []*appsv1.ControllerRevision {
	return r.ByIndex(byOwner, orphansOf(namespace))
}

// Slices is the cache of all EndpointSlices, indexed by Service.
type Slices struct {
	*client.Informer[discoveryv1.EndpointSlice]
}

// Slices returns the shared cache of EndpointSlices.
func (e Env) Slices() Slices {
	return Slices{client.EndpointSlices.Informer(e.Informers, client.Options{Indexes: map[string]func(any) []string{
		byService: func(obj any) []string {
			if s, ok := obj.(*discoveryv1.EndpointSlice); ok && s.Labels[discoveryv1.LabelServiceName] != "" {
				return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}
			}
			return nil
		},
	}})}
}

// Of returns the EndpointSlices of a Service that one manager (the label endpointslice.kubernetes.io/managed-by) made.
func (s Slices) Of(key reconcile.Key, manager string) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, slice := range s.ByIndex(byService, key.Namespace+"/"+key.Name) {
		if slice.Labels[discoveryv1.LabelManagedBy] == manager {
			out = append(out, slice)
		}
	}
	return out
}

// Nodes returns the shared cache of nodes.
func (e Env) Nodes() *client.Informer[corev1.Node] {
	return client.Nodes.Informer(e.Informers, client.Options{})
}

// Namespaces returns the shared cache of namespaces.
func (e Env) Namespaces() *client.Informer[corev1.Namespace] {
	return client.Namespaces.Informer(e.Informers, client.Options{})
}

// Services returns the shared cache of Services.
func (e Env) Services() *client.Informer[corev1.Service] {
	return client.Services.Informer(e.Informers, client.Options{})
}

// Endpoints returns the shared cache of Endpoints.
func (e Env) Endpoints() *client.Informer[corev1.Endpoints] {
	return client.Endpoints.Informer(e.Informers, client.Options{})
}

// Deployments returns the shared cache of Deployments.
func (e Env) Deployments() *client.Informer[appsv1.Deployment] {
	return client.Deployments.Informer(e.Informers, client.Options{})
}

// StatefulSets returns the shared cache of StatefulSets.
func (e Env) StatefulSets() *client.Informer[appsv1.StatefulSet] {
	return client.StatefulSets.Informer(e.Informers, client.Options{})
}

// DaemonSets returns the shared cache of DaemonSets.
func (e Env) DaemonSets() *client.Informer[appsv1.DaemonSet] {
	return client.DaemonSets.Informer(e.Informers, client.Options{})
}

// Jobs returns the shared cache of Jobs, indexed by owner.
func (e Env) Jobs() Jobs {
	return Jobs{client.Jobs.Informer(e.Informers, client.Options{Indexes: map[string]func(any) []string{byOwner: ownerIndex}})}
}

// Jobs is the cache of all Jobs.
type Jobs struct {
	*client.Informer[batchv1.Job]
}

// OwnedBy returns the Jobs whose controller has the uid.
func (j Jobs) OwnedBy(uid types.UID) []*batchv1.Job { return j.ByIndex(byOwner, string(uid)) }

// NodeLeases returns the shared cache of the nodes' signs of life.
func (e Env) NodeLeases() *client.Informer[coordinationv1.Lease] {
	return client.Leases.Informer(e.Informers, client.Options{Namespace: corev1.NamespaceNodeLease})
}

// Keys adds the key of every object to a queue.
func Keys[T any](q *Queue, objects iter.Seq[*T]) {
	for obj := range objects {
		if meta, ok := any(obj).(metav1.Object); ok {
			q.Add(reconcile.KeyOf(meta))
		}
	}
}

// Ending reports whether a write was refused because the namespace is being deleted: there is nothing left to do in it.
func Ending(err error) bool {
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// Gone returns nil for an error that says that the object is gone already, and for none; else the error.
func Gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// Refused reports whether the server said that it did not do what was asked. Any other error leaves that open.
func Refused(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	code := status.Status().Code
	return code >= 400 && code < 500
}
