package flowcontrol

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/resource"
)

// First are the objects that every cluster has: what must be there, and what is a good beginning.
func First() (levels []*flowcontrolv1.PriorityLevelConfiguration, schemas []*flowcontrolv1.FlowSchema) {
	levels = append(mandatoryLevels(),
		queued("system", 30, 33, 64, 6), queued("node-high", 40, 25, 64, 6), queued("leader-election", 10, 0, 16, 4),
		queued("workload-high", 40, 50, 128, 6), queued("workload-low", 100, 90, 128, 6), queued("global-default", 20, 50, 128, 6),
	)
	const user, namespace = flowcontrolv1.FlowDistinguisherMethodByUserType, flowcontrolv1.FlowDistinguisherMethodByNamespaceType
	probes := schemaFor("probes", exempt, 2, "", groups("system:unauthenticated", "system:authenticated"))
	probes.Spec.Rules[0].ResourceRules = nil
	probes.Spec.Rules[0].NonResourceRules[0] = flowcontrolv1.NonResourcePolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz", "/readyz", "/livez"}}
	election := schemaFor("system-leader-election", "leader-election", 100, user, append(users("system:kube-controller-manager", "system:kube-scheduler"), kubeSystem()...))
	election.Spec.Rules[0].NonResourceRules = nil
	election.Spec.Rules[0].ResourceRules = []flowcontrolv1.ResourcePolicyRule{{
		Verbs: []string{"get", "create", "update"}, APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Namespaces: []string{"*"},
	}}
	nodes := schemaFor("system-node-high", "node-high", 400, user, groups("system:nodes"))
	nodes.Spec.Rules[0].NonResourceRules = nil
	nodes.Spec.Rules[0].ResourceRules = []flowcontrolv1.ResourcePolicyRule{
		{Verbs: []string{"*"}, APIGroups: []string{""}, Resources: []string{"nodes", "nodes/status"}, Namespaces: []string{"*"}, ClusterScope: true},
		{Verbs: []string{"*"}, APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Namespaces: []string{"*"}},
	}
	schemas = append(mandatorySchemas(), probes, election, nodes,
		schemaFor("system-nodes", "system", 500, user, groups("system:nodes")),
		schemaFor("kube-controller-manager", "workload-high", 800, namespace, users("system:kube-controller-manager")),
		schemaFor("kube-scheduler", "workload-high", 800, namespace, users("system:kube-scheduler")),
		schemaFor("kube-system-service-accounts", "workload-high", 900, namespace, kubeSystem()),
		schemaFor("service-accounts", "workload-low", 9000, user, groups("system:serviceaccounts")),
		schemaFor("global-default", "global-default", 9900, user, groups("system:unauthenticated", "system:authenticated")),
	)
	return levels, schemas
}

// Objects are those of First in the order in which they are made.
func Objects() []resource.Object {
	levels, schemas := First()
	var out []resource.Object
	for _, l := range levels {
		out = append(out, l)
	}
	for _, s := range schemas {
		out = append(out, s)
	}
	return out
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Annotations: map[string]string{flowcontrolv1.AutoUpdateAnnotationKey: "true"}}
}

// Mandatory are those of First that a cluster cannot be without.
func Mandatory() ([]*flowcontrolv1.PriorityLevelConfiguration, []*flowcontrolv1.FlowSchema) {
	return mandatoryLevels(), mandatorySchemas()
}

func mandatoryLevels() []*flowcontrolv1.PriorityLevelConfiguration {
	rest := queued("catch-all", 5, 0, 0, 0)
	rest.Spec.Limited.LimitResponse = flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject}
	return []*flowcontrolv1.PriorityLevelConfiguration{
		{ObjectMeta: meta(exempt), Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type:   flowcontrolv1.PriorityLevelEnablementExempt,
			Exempt: &flowcontrolv1.ExemptPriorityLevelConfiguration{NominalConcurrencyShares: new(int32), LendablePercent: new(int32)},
		}},
		rest,
	}
}

func mandatorySchemas() []*flowcontrolv1.FlowSchema {
	return []*flowcontrolv1.FlowSchema{
		schemaFor(exempt, exempt, 1, "", groups("system:masters")),
		schemaFor("catch-all", "catch-all", lastOrder, flowcontrolv1.FlowDistinguisherMethodByUserType, groups("system:unauthenticated", "system:authenticated")),
	}
}

func queued(name string, share, lendable, queues, hand int32) *flowcontrolv1.PriorityLevelConfiguration {
	return &flowcontrolv1.PriorityLevelConfiguration{ObjectMeta: meta(name), Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
		Type: flowcontrolv1.PriorityLevelEnablementLimited,
		Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
			NominalConcurrencyShares: &share, LendablePercent: &lendable,
			LimitResponse: flowcontrolv1.LimitResponse{
				Type:    flowcontrolv1.LimitResponseTypeQueue,
				Queuing: &flowcontrolv1.QueuingConfiguration{Queues: queues, HandSize: hand, QueueLengthLimit: 50},
			},
		},
	}}
}

// schemaFor takes everything that some subjects ask for.
func schemaFor(name, level string, order int32, by flowcontrolv1.FlowDistinguisherMethodType, subjects []flowcontrolv1.Subject) *flowcontrolv1.FlowSchema {
	f := &flowcontrolv1.FlowSchema{ObjectMeta: meta(name), Spec: flowcontrolv1.FlowSchemaSpec{
		PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: level}, MatchingPrecedence: order,
		Rules: []flowcontrolv1.PolicyRulesWithSubjects{{
			Subjects:         subjects,
			ResourceRules:    []flowcontrolv1.ResourcePolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}, Namespaces: []string{"*"}, ClusterScope: true}},
			NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}},
		}},
	}}
	if by != "" {
		f.Spec.DistinguisherMethod = &flowcontrolv1.FlowDistinguisherMethod{Type: by}
	}
	return f
}

func groups(names ...string) []flowcontrolv1.Subject {
	var out []flowcontrolv1.Subject
	for _, n := range names {
		out = append(out, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: n}})
	}
	return out
}

func users(names ...string) []flowcontrolv1.Subject {
	var out []flowcontrolv1.Subject
	for _, n := range names {
		out = append(out, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: n}})
	}
	return out
}

func kubeSystem() []flowcontrolv1.Subject {
	return []flowcontrolv1.Subject{{
		Kind:           flowcontrolv1.SubjectKindServiceAccount,
		ServiceAccount: &flowcontrolv1.ServiceAccountSubject{Namespace: metav1.NamespaceSystem, Name: "*"},
	}}
}
