package main

import "regexp"

// area is a part of the suite that one part of a cluster answers for.
type area struct {
	name  string
	tests *regexp.Regexp // matched against the start of a test's name
}

// areas cover all conformance tests, each test by the first that matches.
var areas = func() []area {
	var out []area
	for _, a := range [][2]string{
		{"api/discovery-watch", `\[sig-api-machinery\] (AggregatedDiscovery|Discovery|Servers with support|Watchers|server version)`},
		{"api/namespaces-events", `\[sig-api-machinery\] (Namespaces|OrderedNamespaceDeletion)|\[sig-instrumentation\]|\[sig-node\] Lease`},
		{"api/validation-fairness", `\[sig-api-machinery\] (FieldValidation|API priority and fairness)`},
		{"api/quota-limits", `\[sig-api-machinery\] ResourceQuota|\[sig-scheduling\] LimitRange`},
		{"api/garbage-collector", `\[sig-api-machinery\] Garbage collector`},
		{"api/crd", `\[sig-api-machinery\] CustomResource`},
		{"api/admission-webhooks", `\[sig-api-machinery\] AdmissionWebhook`},
		{"api/admission-policies", `\[sig-api-machinery\] (Validating|Mutating)AdmissionPolicy`},
		{"api/aggregation", `\[sig-api-machinery\] Aggregator`},
		{"apps/deployment", `\[sig-apps\] Deployment`},
		{"apps/replicaset", `\[sig-apps\] (ReplicaSet|ReplicationController)`},
		{"apps/statefulset", `\[sig-apps\] StatefulSet`},
		{"apps/daemonset", `\[sig-apps\] (Daemon set|ControllerRevision)`},
		{"apps/job", `\[sig-apps\] Job`},
		{"apps/cronjob", `\[sig-apps\] CronJob`},
		{"apps/disruption", `\[sig-apps\] DisruptionController`},
		{"auth", `\[sig-auth\]`},
		{"cli", `\[sig-cli\]`},
		{"node/config-env", `\[sig-node\] (ConfigMap|Containers|Downward API|PodTemplates|Secrets|Variable Expansion)`},
		{"node/pods", `\[sig-node\] (Pods|Ephemeral Containers|InitContainer)`},
		{"node/probes", `\[sig-node\] Probing container`},
		{"node/lifecycle-hooks", `\[sig-node\] (Container Lifecycle Hook|PreStop)`},
		{"node/runtime", `\[sig-node\] (Container Runtime|ImageVolume|Kubelet|RuntimeClass)`},
		{"node/security", `\[sig-node\] (Security Context|Sysctls)`},
		{"node/resize", `\[sig-node\] Pod InPlace Resize`},
		{"node/taints-nodes", `\[sig-node\] (NoExecuteTaintManager|Node Lifecycle)|\[sig-architecture\]`},
		{"node/dra-api", `\[sig-node\] \[DRA\]`},
		{"network/services", `\[sig-network\] (Services|Service endpoints latency|EndpointSlice|Endpoints|API Server)`},
		{"network/pods-proxy", `\[sig-network\] (HostPort|Networking|Proxy)`},
		{"network/api", `\[sig-network\] (Ingress|ServiceCIDR)`},
		{"network/dns", `\[sig-network\] DNS`},
		{"scheduling", `\[sig-scheduling\] Scheduler`},
		{"storage/configmap", `\[sig-storage\] (ConfigMap|Projected configMap|Projected combined|EmptyDir wrapper)`},
		{"storage/secret", `\[sig-storage\] (Secrets|Projected secret)`},
		{"storage/downward", `\[sig-storage\] (Downward API|Projected downwardAPI)`},
		{"storage/emptydir-subpath", `\[sig-storage\] (EmptyDir volumes|Subpath)`},
		{"storage/api", `\[sig-storage\] (CSI|PersistentVolumes|StorageClasses|Volume)`},
	} {
		out = append(out, area{a[0], regexp.MustCompile("^(" + a[1] + ")")})
	}
	return out
}()

// areaOf names the area of a test; "other" if the suite has grown and the table has not.
func areaOf(test string) string {
	for _, a := range areas {
		if a.tests.MatchString(test) {
			return a.name
		}
	}
	return "other"
}
