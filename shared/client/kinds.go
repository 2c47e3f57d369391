package client

import (
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The kinds that daemons use.
var (
	ConfigMaps      = define[corev1.ConfigMap, corev1.ConfigMapList](corev1.SchemeGroupVersion, "ConfigMap", "configmaps", true)
	Endpoints       = define[corev1.Endpoints, corev1.EndpointsList](corev1.SchemeGroupVersion, "Endpoints", "endpoints", true)
	Events          = define[corev1.Event, corev1.EventList](corev1.SchemeGroupVersion, "Event", "events", true)
	Namespaces      = define[corev1.Namespace, corev1.NamespaceList](corev1.SchemeGroupVersion, "Namespace", "namespaces", false)
	Nodes           = define[corev1.Node, corev1.NodeList](corev1.SchemeGroupVersion, "Node", "nodes", false)
	Pods            = define[corev1.Pod, corev1.PodList](corev1.SchemeGroupVersion, "Pod", "pods", true)
	Secrets         = define[corev1.Secret, corev1.SecretList](corev1.SchemeGroupVersion, "Secret", "secrets", true)
	ServiceAccounts = define[corev1.ServiceAccount, corev1.ServiceAccountList](corev1.SchemeGroupVersion, "ServiceAccount", "serviceaccounts", true)
	Services        = define[corev1.Service, corev1.ServiceList](corev1.SchemeGroupVersion, "Service", "services", true)
	Deployments     = define[appsv1.Deployment, appsv1.DeploymentList](appsv1.SchemeGroupVersion, "Deployment", "deployments", true)
	ReplicaSets     = define[appsv1.ReplicaSet, appsv1.ReplicaSetList](appsv1.SchemeGroupVersion, "ReplicaSet", "replicasets", true)
	Leases          = define[coordinationv1.Lease, coordinationv1.LeaseList](coordinationv1.SchemeGroupVersion, "Lease", "leases", true)
	EndpointSlices  = define[discoveryv1.EndpointSlice, discoveryv1.EndpointSliceList](discoveryv1.SchemeGroupVersion, "EndpointSlice", "endpointslices", true)
)

func define[T, L any](gv schema.GroupVersion, name, plural string, namespaced bool) Kind[T, L] {
	return Kind[T, L]{GroupVersion: gv, Name: name, Plural: plural, Namespaced: namespaced}
}

// Scheme knows the Go types of the groups above, and those of their subresources.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, coordinationv1.AddToScheme, discoveryv1.AddToScheme, authenticationv1.AddToScheme,
	} {
		if err := add(s); err != nil {
			panic(err) // two types under one name: a broken program
		}
	}
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	return s
}
