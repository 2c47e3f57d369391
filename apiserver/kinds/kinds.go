// Package kinds lists every kind that the apiserver serves. One declaration per kind lies in kinds/<group>/<kind>.go;
// adding a kind is that file and one line here.
package kinds

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"

	"hardway/apiserver/kinds/admissionregistration"
	"hardway/apiserver/kinds/apiextensions"
	"hardway/apiserver/kinds/apiregistration"
	"hardway/apiserver/kinds/apps"
	"hardway/apiserver/kinds/authentication"
	"hardway/apiserver/kinds/authorization"
	"hardway/apiserver/kinds/autoscaling"
	"hardway/apiserver/kinds/batch"
	"hardway/apiserver/kinds/certificates"
	"hardway/apiserver/kinds/coordination"
	"hardway/apiserver/kinds/core"
	"hardway/apiserver/kinds/discovery"
	"hardway/apiserver/kinds/dra"
	"hardway/apiserver/kinds/flowcontrol"
	"hardway/apiserver/kinds/legacy"
	"hardway/apiserver/kinds/networking"
	"hardway/apiserver/kinds/node"
	"hardway/apiserver/kinds/policy"
	"hardway/apiserver/kinds/rbac"
	"hardway/apiserver/kinds/scheduling"
	"hardway/apiserver/kinds/scheme"
	"hardway/apiserver/kinds/storage"
	"hardway/apiserver/resource"
)

// All returns the served kinds, in the order in which discovery shows them. The kinds are shared: read only.
func All() []*resource.Kind { return slices.Clone(all()) }

var all = sync.OnceValue(func() []*resource.Kind {
	return legacy.Add([]*resource.Kind{
		core.Binding,
		core.ComponentStatus,
		core.ConfigMap,
		core.Endpoints,
		core.Event,
		core.LimitRange,
		core.Namespace,
		core.Node,
		core.PersistentVolume,
		core.PersistentVolumeClaim,
		core.Pod,
		core.PodTemplate,
		core.ReplicationController,
		core.ResourceQuota,
		core.Secret,
		core.Service,
		core.ServiceAccount,
		admissionregistration.MutatingAdmissionPolicy,
		admissionregistration.MutatingAdmissionPolicyBinding,
		admissionregistration.MutatingWebhookConfiguration,
		admissionregistration.ValidatingAdmissionPolicy,
		admissionregistration.ValidatingAdmissionPolicyBinding,
		admissionregistration.ValidatingWebhookConfiguration,
		apiextensions.CustomResourceDefinition,
		apiregistration.APIService,
		apps.ControllerRevision,
		apps.DaemonSet,
		apps.Deployment,
		apps.ReplicaSet,
		apps.StatefulSet,
		authentication.SelfSubjectReview,
		authentication.TokenReview,
		authorization.LocalSubjectAccessReview,
		authorization.SelfSubjectAccessReview,
		authorization.SelfSubjectRulesReview,
		authorization.SubjectAccessReview,
		autoscaling.HorizontalPodAutoscaler,
		batch.CronJob,
		batch.Job,
		certificates.CertificateSigningRequest,
		coordination.Lease,
		discovery.EndpointSlice,
		flowcontrol.FlowSchema,
		flowcontrol.PriorityLevelConfiguration,
		networking.IPAddress,
		networking.Ingress,
		networking.IngressClass,
		networking.NetworkPolicy,
		networking.ServiceCIDR,
		node.RuntimeClass,
		policy.PodDisruptionBudget,
		rbac.ClusterRole,
		rbac.ClusterRoleBinding,
		rbac.Role,
		rbac.RoleBinding,
		dra.DeviceClass,
		dra.ResourceClaim,
		dra.ResourceClaimTemplate,
		dra.ResourceSlice,
		scheduling.PriorityClass,
		storage.CSIDriver,
		storage.CSINode,
		storage.CSIStorageCapacity,
		storage.StorageClass,
		storage.VolumeAttachment,
		storage.VolumeAttributesClass,
	})
})

// Scheme knows the Go types of all kinds and of what their subresources speak. It is shared: read only.
func Scheme() *runtime.Scheme { return scheme.Types }
