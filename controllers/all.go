package main

import (
	"slices"

	"hardway/controllers/cleanup/garbage"
	"hardway/controllers/cleanup/namespace"
	"hardway/controllers/cleanup/podgc"
	"hardway/controllers/cleanup/ttl"
	"hardway/controllers/control"
	"hardway/controllers/identity/aggregation"
	"hardway/controllers/identity/bootstrap"
	"hardway/controllers/identity/csr"
	"hardway/controllers/identity/legacytoken"
	"hardway/controllers/identity/rootca"
	"hardway/controllers/identity/serviceaccount"
	"hardway/controllers/node/ipam"
	"hardway/controllers/node/lifecycle"
	"hardway/controllers/node/taint"
	"hardway/controllers/policy/autoscale"
	"hardway/controllers/policy/disruption"
	"hardway/controllers/policy/quota"
	"hardway/controllers/service/endpoints"
	"hardway/controllers/service/endpointslice"
	"hardway/controllers/service/loadbalancer"
	"hardway/controllers/service/mirroring"
	"hardway/controllers/service/ranges"
	"hardway/controllers/storage/attach"
	"hardway/controllers/storage/binder"
	"hardway/controllers/storage/ephemeral"
	"hardway/controllers/storage/expand"
	"hardway/controllers/storage/protection"
	"hardway/controllers/workload/cronjob"
	"hardway/controllers/workload/daemonset"
	"hardway/controllers/workload/deployment"
	"hardway/controllers/workload/job"
	"hardway/controllers/workload/replicaset"
	"hardway/controllers/workload/resourceclaim"
	"hardway/controllers/workload/statefulset"
)

// all is the table of controllers. They are made in this order, so that what everybody waits for comes first.
func all() []control.Controller {
	return slices.Concat(accounts(), workloads(), policies(), services(), volumes(), nodes(), cleanup())
}

// accounts: who there is in the cluster and how they prove it: what every namespace and node waits for comes first.
func accounts() []control.Controller {
	return []control.Controller{
		{
			Name: "serviceaccount-controller", Alias: "serviceaccount", Account: "service-account-controller",
			Reads: []string{"namespaces", "serviceaccounts"}, Writes: []string{"serviceaccounts"},
			New: serviceaccount.New,
		},
		{
			Name: "serviceaccount-token-controller", Alias: "serviceaccount-token",
			Reads: []string{"secrets", "serviceaccounts"}, Writes: []string{"secrets"},
			Needs: legacytoken.Needs, New: legacytoken.New,
		},
		{
			Name: "clusterrole-aggregation-controller", Alias: "clusterrole-aggregation", Account: "clusterrole-aggregation-controller",
			Reads: []string{"rbac.authorization.k8s.io/clusterroles"}, Writes: []string{"rbac.authorization.k8s.io/clusterroles"},
			New: aggregation.New,
		},
		{
			Name: "root-ca-certificate-publisher-controller", Alias: "root-ca-cert-publisher", Account: "root-ca-cert-publisher",
			Reads: []string{"namespaces", "configmaps"}, Writes: []string{"configmaps"},
			Needs: rootca.Needs, New: rootca.New,
		},
		{
			Name: "certificatesigningrequest-approving-controller", Alias: "csrapproving", Account: "certificate-controller",
			Reads:  []string{"certificates.k8s.io/certificatesigningrequests", "nodes"},
			Writes: []string{"certificates.k8s.io/certificatesigningrequests/approval", "authorization.k8s.io/subjectaccessreviews"},
			New:    csr.NewApprover,
		},
		{
			Name: "certificatesigningrequest-signing-controller", Alias: "csrsigning", Account: "certificate-controller",
			Reads:  []string{"certificates.k8s.io/certificatesigningrequests"},
			Writes: []string{"certificates.k8s.io/certificatesigningrequests/status"},
			Needs:  csr.NeedsAuthority, New: csr.NewSigner,
		},
		{
			Name: "certificatesigningrequest-cleaner-controller", Alias: "csrcleaner", Account: "certificate-controller",
			Reads: []string{"certificates.k8s.io/certificatesigningrequests"}, Writes: []string{"certificates.k8s.io/certificatesigningrequests"},
			New: csr.NewCleaner,
		},
		{
			Name: "bootstrap-signer-controller", Alias: "bootstrapsigner", Account: "bootstrap-signer",
			Reads: []string{"secrets", "configmaps"}, Writes: []string{"configmaps"},
			New: bootstrap.NewSigner,
		},
		{
			Name: "token-cleaner-controller", Alias: "tokencleaner", Account: "token-cleaner",
			Reads: []string{"secrets"}, Writes: []string{"secrets"},
			New: bootstrap.NewCleaner,
		},
	}
}

// workloads: what makes pods.
func workloads() []control.Controller {
	return []control.Controller{
		{
			Name: "deployment-controller", Alias: "deployment", Account: "deployment-controller",
			Reads:  []string{"apps/deployments", "apps/replicasets", "pods"},
			Writes: []string{"apps/deployments", "apps/deployments/status", "apps/replicasets", "events"},
			New:    deployment.New,
		},
		{
			Name: "replicaset-controller", Alias: "replicaset", Account: "replicaset-controller",
			Reads:  []string{"apps/replicasets", "pods"},
			Writes: []string{"apps/replicasets/status", "pods", "events"},
			New:    replicaset.New,
		},
		{
			Name: "replicationcontroller-controller", Alias: "replicationcontroller", Account: "replication-controller",
			Reads:  []string{"replicationcontrollers", "pods"},
			Writes: []string{"replicationcontrollers/status", "pods", "events"},
			New:    replicaset.NewReplication,
		},
		{
			Name: "statefulset-controller", Alias: "statefulset", Account: "statefulset-controller",
			Reads:  []string{"apps/statefulsets", "apps/controllerrevisions", "pods", "persistentvolumeclaims"},
			Writes: []string{"apps/statefulsets/status", "apps/controllerrevisions", "pods", "persistentvolumeclaims", "events"},
			New:    statefulset.New,
		},
		{
			Name: "daemonset-controller", Alias: "daemonset", Account: "daemon-set-controller",
			Reads:  []string{"apps/daemonsets", "apps/controllerrevisions", "nodes", "pods"},
			Writes: []string{"apps/daemonsets/status", "apps/controllerrevisions", "pods", "events"},
			New:    daemonset.New,
		},
		{
			Name: "job-controller", Alias: "job", Account: "job-controller",
			Reads: []string{"batch/jobs", "pods"}, Writes: []string{"batch/jobs/status", "pods", "events"},
			New: job.New,
		},
		{
			Name: "cronjob-controller", Alias: "cronjob", Account: "cronjob-controller",
			Reads: []string{"batch/cronjobs", "batch/jobs"}, Writes: []string{"batch/cronjobs/status", "batch/jobs", "events"},
			New: cronjob.New,
		},
		{
			Name: "resourceclaim-controller", Alias: "resource-claim-controller", Account: "resource-claim-controller",
			Reads:  []string{"pods", "resource.k8s.io/resourceclaims", "resource.k8s.io/resourceclaimtemplates"},
			Writes: []string{"resource.k8s.io/resourceclaims", "resource.k8s.io/resourceclaims/status", "pods/status", "events"},
			New:    resourceclaim.New,
		},
	}
}

// policies: how many there may be, or must.
func policies() []control.Controller {
	return []control.Controller{
		{
			Name: "disruption-controller", Alias: "disruption", Account: "disruption-controller",
			Reads:  []string{"policy/poddisruptionbudgets", "pods", "apps/replicasets", "apps/deployments", "apps/statefulsets", "replicationcontrollers"}, // and */scale
			Writes: []string{"policy/poddisruptionbudgets/status"},
			New:    disruption.New,
		},
		{
			Name: "horizontal-pod-autoscaler-controller", Alias: "horizontalpodautoscaling", Account: "horizontal-pod-autoscaler",
			Reads:  []string{"autoscaling/horizontalpodautoscalers", "pods"},
			Writes: []string{"autoscaling/horizontalpodautoscalers/status", "*/scale", "events"},
			New:    autoscale.New,
		},
		{
			Name: "resourcequota-controller", Alias: "resourcequota", Account: "resourcequota-controller",
			Reads: []string{"resourcequotas", "pods", "services", "persistentvolumeclaims"}, Writes: []string{"resourcequotas/status"},
			New: quota.New,
		},
	}
}

// services: where Services lead.
func services() []control.Controller {
	return []control.Controller{
		{
			Name: "endpointslice-controller", Alias: "endpointslice", Account: "endpointslice-controller",
			Reads:  []string{"services", "pods", "nodes", "discovery.k8s.io/endpointslices"},
			Writes: []string{"discovery.k8s.io/endpointslices", "events"},
			New:    endpointslice.New,
		},
		{
			Name: "endpoints-controller", Alias: "endpoint", Account: "endpoint-controller",
			Reads: []string{"services", "pods", "endpoints"}, Writes: []string{"endpoints", "events"},
			New: endpoints.New,
		},
		{
			Name: "endpointslice-mirroring-controller", Alias: "endpointslicemirroring", Account: "endpointslicemirroring-controller",
			Reads:  []string{"services", "endpoints", "discovery.k8s.io/endpointslices"},
			Writes: []string{"discovery.k8s.io/endpointslices", "events"},
			New:    mirroring.New,
		},
		{
			Name: "service-lb-controller", Alias: "service", Account: "service-controller",
			Reads: []string{"services"}, Writes: []string{"services/status", "events"},
			Needs: loadbalancer.Needs, New: loadbalancer.New,
		},
		{
			Name: "service-cidr-controller", Account: "service-cidrs-controller",
			Reads:  []string{"networking.k8s.io/servicecidrs", "networking.k8s.io/ipaddresses"},
			Writes: []string{"networking.k8s.io/servicecidrs", "networking.k8s.io/servicecidrs/status"},
			New:    ranges.New,
		},
	}
}

// volumes: claims and their volumes.
func volumes() []control.Controller {
	return []control.Controller{
		{
			Name: "persistentvolume-binder-controller", Alias: "persistentvolume-binder", Account: "persistent-volume-binder",
			Reads: []string{"persistentvolumeclaims", "persistentvolumes", "storage.k8s.io/storageclasses", "nodes", "pods"},
			Writes: []string{
				"persistentvolumeclaims", "persistentvolumeclaims/status", "persistentvolumes", "persistentvolumes/status", "pods", "namespaces", "events",
			},
			New: binder.New,
		},
		{
			Name: "persistentvolume-expander-controller", Alias: "persistentvolume-expander", Account: "expand-controller",
			Reads:  []string{"persistentvolumeclaims", "persistentvolumes"},
			Writes: []string{"persistentvolumeclaims/status", "persistentvolumes", "events"},
			New:    expand.New,
		},
		{
			Name: "ephemeral-volume-controller", Alias: "ephemeral-volume", Account: "ephemeral-volume-controller",
			Reads: []string{"pods", "persistentvolumeclaims"}, Writes: []string{"persistentvolumeclaims", "events"},
			New: ephemeral.New,
		},
		{
			Name: "persistentvolumeclaim-protection-controller", Alias: "pvc-protection", Account: "pvc-protection-controller",
			Reads: []string{"persistentvolumeclaims", "pods"}, Writes: []string{"persistentvolumeclaims"},
			New: protection.NewClaims,
		},
		{
			Name: "persistentvolume-protection-controller", Alias: "pv-protection", Account: "pv-protection-controller",
			Reads: []string{"persistentvolumes"}, Writes: []string{"persistentvolumes"},
			New: protection.NewVolumes,
		},
		{
			Name: "volumeattributesclass-protection-controller", Account: "volumeattributesclass-protection-controller",
			Reads:  []string{"storage.k8s.io/volumeattributesclasses", "persistentvolumeclaims", "persistentvolumes"},
			Writes: []string{"storage.k8s.io/volumeattributesclasses"},
			New:    protection.NewClasses,
		},
		{
			Name: "persistentvolume-attach-detach-controller", Alias: "attachdetach", Account: "attachdetach-controller",
			Reads: []string{
				"pods", "persistentvolumeclaims", "persistentvolumes", "nodes", "storage.k8s.io/csidrivers", "storage.k8s.io/volumeattachments",
			},
			Writes: []string{"storage.k8s.io/volumeattachments", "nodes/status", "events"},
			New:    attach.New,
		},
	}
}

// nodes: nodes, and the pods on those that fail.
func nodes() []control.Controller {
	return []control.Controller{
		{
			Name: "node-ipam-controller", Alias: "nodeipam", Account: "node-controller",
			Reads: []string{"nodes"}, Writes: []string{"nodes", "events"},
			Needs: ipam.Needs, New: ipam.New,
		},
		{
			Name: "node-lifecycle-controller", Alias: "nodelifecycle", Account: "node-controller",
			Reads:  []string{"nodes", "pods", "coordination.k8s.io/leases"},
			Writes: []string{"nodes", "nodes/status", "pods/status", "events"},
			New:    lifecycle.New,
		},
		{
			Name: "taint-eviction-controller", Alias: "taint-eviction", Account: "node-controller",
			Reads: []string{"nodes", "pods"}, Writes: []string{"pods", "pods/status", "events"},
			New: taint.New,
		},
	}
}

// cleanup: what is over.
func cleanup() []control.Controller {
	return []control.Controller{
		{
			Name: "namespace-controller", Alias: "namespace", Account: "namespace-controller",
			Reads: []string{"*"}, Writes: []string{"*", "namespaces/status", "namespaces/finalize"},
			New: namespace.New,
		},
		{
			Name: "garbage-collector-controller", Alias: "garbagecollector", Account: "generic-garbage-collector",
			Reads: []string{"*"}, Writes: []string{"*", "events"},
			New: garbage.New,
		},
		{
			Name: "ttl-after-finished-controller", Alias: "ttl-after-finished", Account: "ttl-after-finished-controller",
			Reads: []string{"batch/jobs"}, Writes: []string{"batch/jobs"},
			New: ttl.New,
		},
		{
			Name: "pod-garbage-collector-controller", Alias: "podgc", Account: "pod-garbage-collector",
			Reads: []string{"pods", "nodes"}, Writes: []string{"pods", "pods/status"},
			New: podgc.New,
		},
	}
}
