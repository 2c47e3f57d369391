package kinds

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"hardway/apiserver/resource"
)

// The files in testdata belong together by kind: pod.yaml is a good object, pod.golden.yaml the same with its defaults,
// pod.cases.yaml changes of it and what is wrong with them. What the golden file and the cases expect was recorded from
// upstream v1.36.3.

// outcome is one case: a change of the sample, and what it leads to.
type outcome struct {
	Name string `json:"name"`
	// Old is a change of the sample that is stored already; it makes the case an update.
	Old json.RawMessage `json:"old,omitempty"`
	// Patch is the change of the sample that is sent.
	Patch json.RawMessage `json:"patch"`
	// Sub is "status" for an update of the status.
	Sub              string `json:"sub,omitempty"`
	Errors, Warnings []string
}

// sample reads the good object of a kind, changed by a JSON merge patch.
func sample(t *testing.T, k *resource.Kind, patch json.RawMessage) resource.Object {
	t.Helper()
	doc, err := os.ReadFile(file(k, ".yaml"))
	if err != nil {
		t.Fatalf("every kind needs a sample: %v", err)
	}
	if doc, err = yaml.YAMLToJSON(doc); err == nil && len(patch) > 0 {
		doc, err = jsonpatch.MergePatch(doc, patch)
	}
	if err != nil {
		t.Fatal(err)
	}
	obj := k.New()
	decoder := json.NewDecoder(bytes.NewReader(doc))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(obj); err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	return obj
}

func file(k *resource.Kind, suffix string) string {
	return filepath.Join("testdata", strings.ToLower(k.Names.Kind)+suffix)
}

// stored are the kinds whose objects are stored.
func stored() []*resource.Kind {
	return slices.DeleteFunc(All(), func(k *resource.Kind) bool { return !k.Stored() })
}

func each(t *testing.T, kinds []*resource.Kind, f func(t *testing.T, k *resource.Kind)) {
	for _, k := range kinds {
		t.Run(k.Names.Kind, func(t *testing.T) { f(t, k) })
	}
}

func TestDefaultsAreUpstreams(t *testing.T) {
	each(t, stored(), func(t *testing.T, k *resource.Kind) {
		obj := sample(t, k, nil)
		k.Default(obj)
		got, err := yaml.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(file(k, ".golden.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		again := obj.DeepCopyObject().(resource.Object)
		k.Default(again)
		if !equality.Semantic.DeepEqual(again, obj) {
			t.Error("a second time changes the defaults")
		}
	})
}

func TestCasesAreUpstreams(t *testing.T) {
	each(t, stored(), func(t *testing.T, k *resource.Kind) {
		cases := []outcome{{Name: "the sample itself"}}
		if raw, err := os.ReadFile(file(k, ".cases.yaml")); err == nil {
			var more []outcome
			if err := yaml.Unmarshal(raw, &more); err != nil {
				t.Fatal(err)
			}
			cases = append(cases, more...)
		}
		for _, c := range cases {
			t.Run(c.Name, func(t *testing.T) {
				errs, warnings := run(t, k, c)
				if got := lines(errs); !slices.Equal(got, c.Errors) {
					t.Errorf("errors\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.Errors, "\n"))
				}
				if slices.Sort(warnings); c.Patch != nil && !slices.Equal(warnings, c.Warnings) {
					t.Errorf("warnings\n%s\nwant\n%s", strings.Join(warnings, "\n"), strings.Join(c.Warnings, "\n"))
				}
			})
		}
	})
}

// run takes an object through the hooks as the registry does.
func run(t *testing.T, k *resource.Kind, c outcome) (field.ErrorList, []string) {
	t.Helper()
	obj := sample(t, k, c.Patch)
	k.Default(obj)
	if c.Old == nil {
		k.Prepare(t.Context(), obj, nil)
		return append(k.Validate(obj), k.ValidateCreate(obj)...), k.Warnings(obj, nil)
	}
	old := sample(t, k, c.Old)
	k.Default(old)
	before := old.DeepCopyObject()
	defer func() {
		if !equality.Semantic.DeepEqual(before, old) {
			t.Error("the old object was changed")
		}
	}()
	if c.Sub == "status" {
		next := old.DeepCopyObject().(resource.Object)
		k.SetStatus(next, obj)
		return k.ValidateStatusUpdate(next, old), nil
	}
	if k.HasStatus {
		k.SetStatus(obj, old)
	}
	k.Prepare(t.Context(), obj, old)
	k.Default(obj)
	return append(k.Validate(obj), k.ValidateUpdate(obj, old)...), k.Warnings(obj, old)
}

// lines shows errors as "field: type: detail", sorted, each once, the first line of it.
func lines(errs field.ErrorList) []string {
	var out []string
	for _, e := range errs {
		detail, _, _ := strings.Cut(e.Detail, "\n")
		if values, ok := strings.CutPrefix(detail, "supported values: "); ok {
			sorted := strings.Split(values, ", ")
			slices.Sort(sorted)
			detail = "supported values: " + strings.Join(sorted, ", ")
		}
		out = append(out, fmt.Sprintf("%s: %s: %s", e.Field, e.Type, detail))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestRoundTrip(t *testing.T) {
	codec := protobuf.NewSerializer(Scheme(), Scheme())
	each(t, stored(), func(t *testing.T, k *resource.Kind) {
		obj := sample(t, k, nil)
		k.Default(obj)
		obj.GetObjectKind().SetGroupVersionKind(k.GVK())
		var wire bytes.Buffer
		if err := codec.Encode(obj, &wire); err != nil {
			t.Fatal(err)
		}
		back, gvk, err := codec.Decode(wire.Bytes(), nil, nil)
		if err != nil || *gvk != k.GVK() {
			t.Fatalf("%v %v", gvk, err)
		}
		k.Default(back.(resource.Object))
		if !equality.Semantic.DeepEqual(back, runtime.Object(obj)) {
			t.Errorf("protobuf: got %v, want %v", back, obj)
		}
		for _, v := range k.Versions {
			other, err := v.FromStored(obj)
			if err != nil {
				t.Fatal(err)
			}
			again, err := v.ToStorage(other)
			if err != nil {
				t.Fatal(err)
			}
			again.GetObjectKind().SetGroupVersionKind(k.GVK())
			if !equality.Semantic.DeepEqual(again, obj) {
				t.Errorf("%s: got %v, want %v", v.Names.Group, again, obj)
			}
		}
	})
}

func TestPrintedAsUpstream(t *testing.T) {
	want := map[string]string{
		"Pod":                              "Ready=2/3 Status=CrashLoopBackOff Restarts=5 Age=<unknown> IP=10.200.0.5 Node=n1 Nominated Node=<none> Readiness Gates=1/1",
		"Node":                             "Status=Ready,SchedulingDisabled Roles=control-plane,old,worker Age=<unknown> Version=v1.36.3 Internal-IP=10.0.0.1 External-IP=<none> OS-Image=Debian Kernel-Version=6.1 (amd64) Container-Runtime=<unknown>",
		"Service":                          "Type=NodePort Cluster-IP=10.32.0.7 External-IP=203.0.113.4 Port(s)=80:30080/TCP,53/UDP Age=<unknown> Selector=app=web,tier=front",
		"Endpoints":                        "Endpoints=10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 1 more... Age=<unknown>",
		"EndpointSlice":                    "AddressType=IPv4 Ports=80,81,c Endpoints=10.0.0.1,10.0.0.2,10.0.0.3 + 1 more... Age=<unknown>",
		"Event":                            "Last Seen=<unknown> Type=Normal Reason=Started Object=pod/web Subobject=spec.containers{main} Source=kubelet, n1 Message=Started container First Seen=<unknown> Count=3 Name=sample",
		"PodTemplate":                      "Containers=main Images=nginx Pod Labels=app=web",
		"ReplicationController":            "Desired=1 Current=0 Ready=0 Age=<unknown> Containers=main Images=nginx Selector=app=web",
		"ConfigMap":                        "Data=3 Age=<unknown>",
		"Secret":                           "Type=Opaque Data=2 Age=<unknown>",
		"ServiceAccount":                   "Age=<unknown>",
		"Namespace":                        "Status=Active Age=<unknown>",
		"Lease":                            "Holder=n1 Age=<unknown>",
		"ReplicaSet":                       "Desired=1 Current=0 Ready=0 Age=<unknown> Containers=main Images=nginx Selector=app=web,tier in (front)",
		"Deployment":                       "Ready=0/1 Up-to-date=0 Available=0 Age=<unknown> Containers=main,side,tagged Images=registry.example:5000/web,busybox@sha256:b5d6fe0712636ceb7430189de28819e195e8966372edfc2d9409d79402a0dc16,docker.io/library/busybox:latest Selector=app=web",
		"ControllerRevision":               "Controller=statefulset.apps/web Revision=3 Age=<unknown>",
		"IPAddress":                        "ParentRef=services/default/kubernetes Age=<unknown>",
		"ServiceCIDR":                      "CIDRs=10.32.0.0/24 Age=<unknown>",
		"LimitRange":                       "",
		"PersistentVolume":                 "Capacity=5Gi Access Modes=RWO,ROX Reclaim Policy=Retain Status=Pending Claim=ns/data StorageClass=slow VolumeAttributesClass=<unset> Reason= Age=<unknown> VolumeMode=Filesystem",
		"PersistentVolumeClaim":            "Status=Bound Volume=pv-1 Capacity=1Gi Access Modes=RWO StorageClass=standard VolumeAttributesClass=<unset> Age=<unknown> VolumeMode=Filesystem",
		"ResourceQuota":                    "Request=cpu: 500m/2, pods: 3/5 Limit=limits.memory: 1Gi/4Gi Age=<unknown>",
		"DaemonSet":                        "Desired=3 Current=3 Ready=2 Up-to-date=3 Available=2 Node Selector=disk=ssd Age=<unknown> Containers=main Images=nginx Selector=app=web",
		"StatefulSet":                      "Ready=0/1 Age=<unknown> Containers=main Images=nginx",
		"HorizontalPodAutoscaler":          "Reference=Deployment/web Targets=8/10, 2/3 + 1 more... MinPods=1 MaxPods=5 Replicas=2 Age=<unknown>",
		"CronJob":                          "Schedule=*/5 * * * * Timezone=Europe/Berlin Suspend=False Active=0 Last Schedule=<none> Age=<unknown> Containers=main Images=busybox Selector=<none>",
		"Job":                              "Status=Running Completions=0/1 Duration= Age=<unknown> Containers=main Images=busybox Selector=<none>",
		"PodDisruptionBudget":              "Min Available=50% Max Unavailable=N/A Allowed Disruptions=0 Age=<unknown>",
		"PriorityClass":                    "Value=1000 Global-Default=false Age=<unknown> PreemptionPolicy=PreemptLowerPriority",
		"CSIDriver":                        "AttachRequired=true PodInfoOnMount=false StorageCapacity=false TokenRequests=a,b RequiresRepublish=false Modes=Persistent Age=<unknown>",
		"CSINode":                          "Drivers=1 Age=<unknown>",
		"CSIStorageCapacity":               "StorageClassName=standard Capacity=10Gi",
		"StorageClass":                     "Name=sample (default) Provisioner=example.com/disk ReclaimPolicy=Delete VolumeBindingMode=Immediate AllowVolumeExpansion=false Age=<unknown>",
		"VolumeAttachment":                 "Attacher=disk.example.com PV=pv-1 Node=n1 Attached=false Age=<unknown>",
		"VolumeAttributesClass":            "DriverName=disk.example.com Age=<unknown>",
		"CertificateSigningRequest":        "Age=<unknown> SignerName=kubernetes.io/kube-apiserver-client-kubelet Requestor= RequestedDuration=60m Condition=Pending",
		"ClusterRole":                      "Created At=0001-01-01T00:00:00Z",
		"ClusterRoleBinding":               "Role=ClusterRole/view Age=<unknown> Users=jane Groups= ServiceAccounts=dev/default",
		"Role":                             "Created At=0001-01-01T00:00:00Z",
		"RoleBinding":                      "Role=ClusterRole/view Age=<unknown> Users=jane Groups=devs ServiceAccounts=dev/default",
		"MutatingWebhookConfiguration":     "Webhooks=1 Age=<unknown>",
		"ValidatingAdmissionPolicy":        "Validations=1 ParamKind=<unset> Age=<unknown>",
		"ValidatingAdmissionPolicyBinding": "PolicyName=p ParamRef=<unset> Age=<unknown>",
		"ValidatingWebhookConfiguration":   "Webhooks=1 Age=<unknown>",
		"FlowSchema":                       "PriorityLevel=workload-low MatchingPrecedence=1000 DistinguisherMethod=ByUser Age=<unknown> MissingPL=?",
		"PriorityLevelConfiguration":       "Type=Limited NominalConcurrencyShares=5 Queues=64 HandSize=8 QueueLengthLimit=50 Age=<unknown>",
		"Ingress":                          "Class=nginx Hosts=example.com Address=203.0.113.4 Ports=80, 443 Age=<unknown>",
		"IngressClass":                     "Name=sample (default) Controller=example.com/ingress Parameters=Params.k8s.example.com/p Age=<unknown>",
		"NetworkPolicy":                    "Pod-Selector=app=web Age=<unknown>",
		"MutatingAdmissionPolicy":          "Mutations=1 ParamKind=<unset> Age=<unknown>",
		"MutatingAdmissionPolicyBinding":   "PolicyName=p ParamRef=<unset> Age=<unknown>",
		"RuntimeClass":                     "Handler=gvisor Age=<unknown>",
		"DeviceClass":                      "Age=<unknown>",
		"ResourceClaim":                    "State=pending Age=<unknown>",
		"ResourceClaimTemplate":            "Age=<unknown>",
		"ResourceSlice":                    "Node=n1 Driver=gpu.example.com Pool=n1 Age=<unknown>",
		"APIService":                       "Service=Local Available=True Age=<unknown>",
	}
	each(t, stored(), func(t *testing.T, k *resource.Kind) {
		obj := sample(t, k, nil)
		k.Default(obj)
		var cells []string
		names := sets.New[string]()
		for _, c := range k.Columns {
			value := c.Value(obj)
			switch value.(type) {
			case string, int64, bool:
			default:
				t.Errorf("column %s is a %T", c.Name, value)
			}
			if names.Has(c.Name) || c.Description == "" {
				t.Errorf("column %s is there twice, or says nothing of itself", c.Name)
			}
			names.Insert(c.Name)
			cells = append(cells, fmt.Sprintf("%s=%v", c.Name, value))
		}
		if got := strings.Join(cells, " "); got != want[k.Names.Kind] {
			t.Errorf("printed\n%s\nwant\n%s", got, want[k.Names.Kind])
		}
		// An empty object must not break the list it is in.
		for _, c := range k.Columns {
			c.Value(k.New())
		}
		for _, get := range k.Fields {
			get(k.New())
		}
	})
}

func TestNamesAreKnownAndUnique(t *testing.T) {
	seen := map[string]string{}
	claim := func(word, by string) {
		if other, taken := seen[word]; taken {
			t.Errorf("%s belongs to %s and %s", word, other, by)
		}
		seen[word] = by
	}
	each(t, All(), func(t *testing.T, k *resource.Kind) {
		if !Scheme().Recognizes(k.GVK()) {
			t.Errorf("the scheme does not know %s", k.GVK())
		}
		if k.Review == nil {
			k.NewList()
			claim("/registry/"+k.StorageKey, k.Names.Kind)
		}
		claim(k.GroupResource().String(), k.Names.Kind)
		if k.Review == nil {
			claim("kind "+k.Names.Kind, k.Names.Kind)
		}
		for _, s := range k.Short {
			claim("short "+s, k.Names.Kind)
		}
		if k.Plural != strings.ToLower(k.Plural) || k.Singular != strings.ToLower(k.Singular) {
			t.Errorf("%s, %s are not lower case", k.Plural, k.Singular)
		}
		for _, indexed := range k.Indexed {
			if k.Fields[indexed] == nil {
				t.Errorf("%s is indexed and no field", indexed)
			}
		}
		for _, s := range k.Subresources {
			if !Scheme().Recognizes(s.Kind) {
				t.Errorf("the scheme does not know %s of %s", s.Kind, s.Name)
			}
			if (s.Write != nil || s.Delete != nil) && s.New == nil {
				t.Errorf("%s can be written and has no New", s.Name)
			}
		}
		for _, v := range k.Versions {
			for name, field := range v.Fields {
				if k.Fields[field] == nil {
					t.Errorf("%s of %s means %s, which is no field", name, v.Names.Group, field)
				}
			}
		}
	})
}

func TestStorageKeysAreUpstreams(t *testing.T) {
	want := map[string]string{"ReplicationController": "controllers", "Node": "minions", "Service": "services/specs", "Endpoints": "services/endpoints", "Ingress": "ingress",
		"CustomResourceDefinition": "apiextensions.k8s.io/customresourcedefinitions", "APIService": "apiregistration.k8s.io/apiservices"}
	for _, k := range stored() {
		if key, special := want[k.Names.Kind]; special && k.StorageKey != key || !special && k.StorageKey != k.Plural {
			t.Errorf("%s is kept below %s", k.Names.Kind, k.StorageKey)
		}
	}
}
