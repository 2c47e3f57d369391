// Package quota counts what objects take from a namespace's ResourceQuotas. The API server asks before it lets an object
// in, the quota controller when it adds up what is there: both must count the same.
//
// Resource names are those of https://kubernetes.io/docs/concepts/policy/resource-quotas/.
package quota

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// plain are the kinds whose number is also limited under their plain name.
var plain = []string{"configmaps", "persistentvolumeclaims", "pods", "replicationcontrollers", "resourcequotas", "secrets", "services"}

// Count is the name under which the number of objects of a kind is limited: count/<plural>.<group>.
func Count(gr schema.GroupResource) corev1.ResourceName {
	return corev1.ResourceName("count/" + gr.String())
}

// Usage is what one object takes, by the names of quotas, at a point in time: a pod that is done takes nothing but its
// place among all objects.
func Usage(gr schema.GroupResource, obj runtime.Object, now time.Time) corev1.ResourceList {
	out := corev1.ResourceList{Count(gr): one()}
	if pod, ok := obj.(*corev1.Pod); ok && !Takes(pod, now) {
		return out
	}
	if gr.Group == "" && slices.Contains(plain, gr.Resource) {
		out[corev1.ResourceName(gr.Resource)] = one()
	}
	switch o := obj.(type) {
	case *corev1.Pod:
		addPod(out, o)
	case *corev1.Service:
		addService(out, o)
	case *corev1.PersistentVolumeClaim:
		addClaim(out, o)
	}
	return out
}

func one() resource.Quantity { return *resource.NewQuantity(1, resource.DecimalSI) }

// Takes says whether a pod still takes resources: it is neither done nor overdue to be gone.
func Takes(p *corev1.Pod, now time.Time) bool {
	if p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		return false
	}
	grace := p.DeletionGracePeriodSeconds
	return p.DeletionTimestamp == nil || grace == nil || !now.After(p.DeletionTimestamp.Add(time.Duration(*grace)*time.Second))
}

// addService adds node ports and load balancers.
func addService(out corev1.ResourceList, s *corev1.Service) {
	ports := 0
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		ports = len(s.Spec.Ports)
	case corev1.ServiceTypeLoadBalancer:
		out[corev1.ResourceServicesLoadBalancers] = one()
		for _, p := range s.Spec.Ports {
			if p.NodePort != 0 {
				ports++
			}
		}
		if s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts {
			ports = len(s.Spec.Ports)
		}
	}
	out[corev1.ResourceServicesNodePorts] = *resource.NewQuantity(int64(ports), resource.DecimalSI)
	if _, has := out[corev1.ResourceServicesLoadBalancers]; !has {
		out[corev1.ResourceServicesLoadBalancers] = *resource.NewQuantity(0, resource.DecimalSI)
	}
}

// classSuffix follows the name of a storage class in the names of what claims of that class take.
const classSuffix = ".storageclass.storage.k8s.io/"

// addClaim adds the requested storage, in all and of the class.
func addClaim(out corev1.ResourceList, c *corev1.PersistentVolumeClaim) {
	size, sized := c.Spec.Resources.Requests[corev1.ResourceStorage]
	// What a claim was given counts while it is more than it asks for now.
	if given, ok := c.Status.AllocatedResources[corev1.ResourceStorage]; ok && given.Cmp(size) > 0 {
		size, sized = given, true
	}
	class := c.Annotations[corev1.BetaStorageClassAnnotation]
	if c.Spec.StorageClassName != nil && class == "" {
		class = *c.Spec.StorageClassName
	}
	if sized {
		out[corev1.ResourceRequestsStorage] = size.DeepCopy()
	}
	if class == "" {
		return
	}
	out[corev1.ResourceName(class+classSuffix+"persistentvolumeclaims")] = one()
	if sized {
		out[corev1.ResourceName(class+classSuffix+"requests.storage")] = size.DeepCopy()
	}
}

// Add adds b to a.
func Add(a, b corev1.ResourceList) {
	for name, q := range b {
		sum := a[name]
		sum.Add(q)
		a[name] = sum
	}
}

// Of keeps the amounts that are limited by hard.
func Of(used, hard corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, q := range used {
		if _, limited := hard[name]; limited {
			out[name] = q
		}
	}
	return out
}

// Text writes amounts in the order of their names: "cpu=1,pods=2".
func Text(l corev1.ResourceList) string {
	words := make([]string, 0, len(l))
	for name, q := range l {
		words = append(words, string(name)+"="+q.String())
	}
	slices.Sort(words)
	return strings.Join(words, ",")
}
