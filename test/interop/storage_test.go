//go:build interop

package interop

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// stored are objects of many kinds, one a line: what lies where in etcd must not depend on who wrote it. NAME is replaced.
var stored = []struct{ resource, manifest string }{
	{"v1/configmaps", `{apiVersion: v1, kind: ConfigMap, data: {a: b}, binaryData: {z: AAEC}, immutable: false}`},
	{"v1/secrets", `{apiVersion: v1, kind: Secret, type: Opaque, stringData: {k: "nobody may read this"}}`},
	{"v1/serviceaccounts", `{apiVersion: v1, kind: ServiceAccount, imagePullSecrets: [{name: x}]}`},
	{"v1/pods", `{apiVersion: v1, kind: Pod, spec: {serviceAccountName: acc, containers: [{name: c, image: "i:1", resources: {requests: {cpu: 100m, memory: 1Gi}}, livenessProbe: {httpGet: {port: 80}}, env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}], tolerations: [{operator: Exists}]}}`},
	{"v1/services", `{apiVersion: v1, kind: Service, spec: {selector: {a: b}, ports: [{name: w, port: 80, targetPort: http}, {name: x, port: 81, protocol: UDP}]}}`},
	{"v1/replicationcontrollers", `{apiVersion: v1, kind: ReplicationController, spec: {selector: {a: b}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}`},
	{"v1/persistentvolumeclaims", `{apiVersion: v1, kind: PersistentVolumeClaim, spec: {accessModes: [ReadWriteOnce], storageClassName: "", resources: {requests: {storage: 1Gi}}}}`},
	{"v1/persistentvolumes", `{apiVersion: v1, kind: PersistentVolume, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}}}`},
	{"v1/limitranges", `{apiVersion: v1, kind: LimitRange, spec: {limits: [{type: PersistentVolumeClaim, max: {storage: 10Gi}}]}}`},
	{"v1/resourcequotas", `{apiVersion: v1, kind: ResourceQuota, spec: {hard: {"count/leases.coordination.k8s.io": "100"}}}`},
	{"v1/podtemplates", `{apiVersion: v1, kind: PodTemplate, template: {spec: {containers: [{name: c, image: i}]}}}`},
	{"apps/v1/deployments", `{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 2, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}], volumes: [{name: v, emptyDir: {}}]}}}}`},
	{"apps/v1/statefulsets", `{apiVersion: apps/v1, kind: StatefulSet, spec: {serviceName: s, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}, volumeClaimTemplates: [{metadata: {name: d}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}}`},
	{"apps/v1/daemonsets", `{apiVersion: apps/v1, kind: DaemonSet, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}`},
	{"apps/v1/replicasets", `{apiVersion: apps/v1, kind: ReplicaSet, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}`},
	{"apps/v1/controllerrevisions", `{apiVersion: apps/v1, kind: ControllerRevision, revision: 3, data: {x: {y: 1}}}`},
	{"batch/v1/jobs", `{apiVersion: batch/v1, kind: Job, spec: {completions: 3, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}`},
	{"batch/v1/cronjobs", `{apiVersion: batch/v1, kind: CronJob, spec: {schedule: "*/5 * * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}}`},
	{"autoscaling/v2/horizontalpodautoscalers", `{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}, maxReplicas: 3, metrics: [{type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 100Mi}}}]}}`},
	{"policy/v1/poddisruptionbudgets", `{apiVersion: policy/v1, kind: PodDisruptionBudget, spec: {minAvailable: 50%, selector: {matchLabels: {a: b}}}}`},
	{"networking.k8s.io/v1/ingresses", `{apiVersion: networking.k8s.io/v1, kind: Ingress, spec: {rules: [{host: h.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s, port: {number: 80}}}}]}}]}}`},
	{"networking.k8s.io/v1/networkpolicies", `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, spec: {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {a: b}}}], ports: [{port: 80}]}]}}`},
	{"networking.k8s.io/v1/ingressclasses", `{apiVersion: networking.k8s.io/v1, kind: IngressClass, spec: {controller: example.com/c}}`},
	{"discovery.k8s.io/v1/endpointslices", `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, endpoints: [{addresses: [10.0.0.9], conditions: {ready: true}}], ports: [{name: p, port: 80}]}`},
	{"rbac.authorization.k8s.io/v1/roles", `{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]}`},
	{"rbac.authorization.k8s.io/v1/rolebindings", `{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}, subjects: [{kind: User, name: u}]}`},
	{"rbac.authorization.k8s.io/v1/clusterroles", `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, rules: [{nonResourceURLs: [/x], verbs: [get]}]}`},
	{"storage.k8s.io/v1/storageclasses", `{apiVersion: storage.k8s.io/v1, kind: StorageClass, provisioner: example.com/p}`},
	{"storage.k8s.io/v1/csidrivers", `{apiVersion: storage.k8s.io/v1, kind: CSIDriver, spec: {podInfoOnMount: true}}`},
	{"scheduling.k8s.io/v1/priorityclasses", `{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, value: 10}`},
	{"coordination.k8s.io/v1/leases", `{apiVersion: coordination.k8s.io/v1, kind: Lease, spec: {holderIdentity: me, leaseDurationSeconds: 15, renewTime: "2026-01-02T03:04:05.678901Z"}}`},
	{"events.k8s.io/v1/events", `{apiVersion: events.k8s.io/v1, kind: Event, eventTime: "2026-01-02T03:04:05.678901Z", reportingController: example.com/c, reportingInstance: i, action: a, reason: r, type: Normal, regarding: {kind: Pod, namespace: default, name: p}}`},
	{"node.k8s.io/v1/runtimeclasses", `{apiVersion: node.k8s.io/v1, kind: RuntimeClass, handler: h}`},
	{"v1/nodes", `{apiVersion: v1, kind: Node, spec: {podCIDR: 10.9.0.0/24}}`},
	{"v1/namespaces", `{apiVersion: v1, kind: Namespace}`},
}

var clusterScoped = map[string]bool{"persistentvolumes": true, "ingressclasses": true, "clusterroles": true, "storageclasses": true, "csidrivers": true,
	"priorityclasses": true, "runtimeclasses": true, "nodes": true, "namespaces": true}

// An etcd that upstream's API server has written opens in ours and the other way round: same keys, same form, same
// encryption, and every object reads the same, to the last field.
func TestStorage(t *testing.T) {
	l := newLab(t)
	stop := l.apiserver(true)
	theirs := l.writeAll("upstream")
	stop()
	stop = l.apiserver(false)
	l.compare("written by upstream, read by ours", theirs)
	l.touchAll(theirs) // ours rewrites what upstream wrote
	ours := l.writeAll("hardway")
	stop()
	keys := l.raw()
	stop = l.apiserver(true)
	defer stop()
	l.compare("written by ours, read by upstream", ours)
	l.compare("rewritten by ours, read by upstream", theirs)

	for key, value := range keys {
		want := "k8s\x00"
		if strings.HasPrefix(key, "/registry/secrets/") {
			want = "k8s:enc:aescbc:v1:key1:"
		}
		if !strings.HasPrefix(value, want) && strings.Contains(key, "hardway") {
			t.Errorf("%s begins with %.30q, want %q", key, value, want)
		}
		if strings.Contains(key, "-upstream") && keys[strings.ReplaceAll(key, "-upstream", "-hardway")] == "" {
			t.Errorf("upstream writes %s, ours nothing there", key)
		}
	}
}

// object is where an object is and what a GET answered.
type object struct {
	at  dynamic.ResourceInterface
	obj *unstructured.Unstructured
}

// client finds where a row's objects lie.
func (l *lab) client(row string) dynamic.ResourceInterface {
	l.t.Helper()
	api, err := dynamic.NewForConfig(l.config("admin", "system:masters"))
	if err != nil {
		l.t.Fatal(err)
	}
	parts := strings.Split(row, "/")
	gvr := schema.GroupVersionResource{Version: parts[len(parts)-2], Resource: parts[len(parts)-1]}
	if len(parts) == 3 {
		gvr.Group = parts[0]
	}
	if clusterScoped[gvr.Resource] {
		return api.Resource(gvr)
	}
	return api.Resource(gvr).Namespace("default")
}

// writeAll creates one object of each kind, named by who writes, and reads it.
func (l *lab) writeAll(who string) []object {
	l.t.Helper()
	var out []object
	account := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": "acc"}}}
	_, _ = l.client("v1/serviceaccounts").Create(l.t.Context(), account, metav1.CreateOptions{}) // the second time it is there
	for _, s := range stored {
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(s.manifest), &obj.Object); err != nil {
			l.t.Fatal(err)
		}
		obj.SetName("x-" + who)
		obj.SetLabels(map[string]string{"by": who})
		at := l.client(s.resource)
		if _, err := at.Create(l.t.Context(), obj, metav1.CreateOptions{FieldManager: "interop"}); err != nil {
			l.t.Errorf("create %s with %s: %v", s.resource, who, err)
			continue
		}
		got, err := at.Get(l.t.Context(), obj.GetName(), metav1.GetOptions{})
		if err != nil {
			l.t.Fatal(err)
		}
		out = append(out, object{at, got})
	}
	return out
}

// touchAll changes every object a little and remembers what it is now.
func (l *lab) touchAll(objects []object) {
	l.t.Helper()
	for i, o := range objects {
		changed := o.obj.DeepCopy()
		changed.SetAnnotations(map[string]string{"touched": "yes"})
		got, err := o.at.Update(l.t.Context(), changed, metav1.UpdateOptions{FieldManager: "interop"})
		if err != nil {
			l.t.Errorf("update %s %s: %v", o.obj.GetKind(), o.obj.GetName(), err)
			continue
		}
		objects[i].obj = got
	}
}

// compare reads every object anew.
func (l *lab) compare(what string, objects []object) {
	l.t.Helper()
	for _, o := range objects {
		got, err := o.at.Get(l.t.Context(), o.obj.GetName(), metav1.GetOptions{})
		if err != nil {
			l.t.Errorf("%s: %s %s: %v", what, o.obj.GetKind(), o.obj.GetName(), err)
			continue
		}
		if !reflect.DeepEqual(got.Object, o.obj.Object) {
			want, _ := yaml.Marshal(o.obj.Object)
			have, _ := yaml.Marshal(got.Object)
			l.t.Errorf("%s: %s reads differently:\n%s\nwant\n%s", what, o.obj.GetKind(), have, want)
		}
	}
}

// raw is what lies in etcd, as its JSON gateway tells.
func (l *lab) raw() map[string]string {
	l.t.Helper()
	ask, err := json.Marshal(map[string][]byte{"key": []byte("/registry/"), "range_end": []byte("/registry0")})
	if err != nil {
		l.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, etcdURL+"/v3/kv/range", bytes.NewReader(ask))
	if err != nil {
		l.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		KVs []struct{ Key, Value []byte } `json:"kvs"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		l.t.Fatal(err)
	}
	keys := map[string]string{}
	for _, kv := range answer.KVs {
		keys[string(kv.Key)] = string(kv.Value)
	}
	return keys
}
