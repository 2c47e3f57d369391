package core

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

func pending() *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "ns", UID: "u1", ResourceVersion: "7"}}
	p.Spec.Containers = []corev1.Container{{Name: "main", Image: "nginx"}}
	defaultPod(p)
	return p
}

func binding(change func(*corev1.Binding)) *corev1.Binding {
	b := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{"a": "b"}, Labels: map[string]string{"zone": "z"}},
		Target:     corev1.ObjectReference{Kind: "Node", Name: "n1"},
	}
	if change != nil {
		change(b)
	}
	return b
}

func TestBinding(t *testing.T) {
	p := pending()
	p.Status.NominatedNodeName = "n9"
	if err := bindPod(t.Context(), p, binding(nil)); err != nil {
		t.Fatal(err)
	}
	c := podCondition(&p.Status, corev1.PodScheduled)
	if p.Spec.NodeName != "n1" || p.Annotations["a"] != "b" || p.Labels["zone"] != "z" || p.Status.NominatedNodeName != "" ||
		c == nil || c.Status != corev1.ConditionTrue || c.LastTransitionTime.IsZero() {
		t.Errorf("bound pod: %+v", p)
	}
	if podSpecChanged(p, pending()) {
		t.Error("binding counts as a new generation")
	}
	p.Spec.Containers[0].Image = "other"
	if !podSpecChanged(p, pending()) {
		t.Error("another image does not")
	}
}

func TestBindingIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		pod  func(*corev1.Pod)
		bind func(*corev1.Binding)
		is   func(error) bool
		says string
	}{
		"bound already":   {func(p *corev1.Pod) { p.Spec.NodeName = "n2" }, nil, apierrors.IsConflict, `pod web is already assigned to node "n2"`},
		"going away":      {func(p *corev1.Pod) { now := metav1.Now(); p.DeletionTimestamp = &now }, nil, apierrors.IsConflict, "pod web is being deleted, cannot be assigned to a host"},
		"gated":           {func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }, nil, apierrors.IsConflict, "pod web has non-empty .spec.schedulingGates"},
		"another pod":     {nil, func(b *corev1.Binding) { b.UID = "u2" }, apierrors.IsConflict, "UID in precondition: u2, UID in object meta: u1"},
		"an older pod":    {nil, func(b *corev1.Binding) { b.ResourceVersion = "6" }, apierrors.IsConflict, "ResourceVersion in precondition: 6"},
		"another name":    {nil, func(b *corev1.Binding) { b.Name = "db" }, apierrors.IsBadRequest, "name in URL does not match"},
		"no node":         {nil, func(b *corev1.Binding) { b.Target.Name = "" }, apierrors.IsInvalid, "target.name: Required value"},
		"no kind of node": {nil, func(b *corev1.Binding) { b.Target.Kind = "Pod" }, apierrors.IsInvalid, `target.kind: Unsupported value: "Pod"`},
	} {
		t.Run(name, func(t *testing.T) {
			p := pending()
			if tc.pod != nil {
				tc.pod(p)
			}
			err := bindPod(t.Context(), p, binding(tc.bind))
			if !tc.is(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestEviction(t *testing.T) {
	p, seconds := pending(), int64(3)
	e := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "web"}, DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: &seconds}}
	if err := evictPod(t.Context(), p, e); err != nil {
		t.Fatal(err)
	}
	if c := podCondition(&p.Status, corev1.DisruptionTarget); c == nil || c.Reason != "EvictionByEvictionAPI" {
		t.Errorf("conditions %+v", p.Status.Conditions)
	}
	o, err := deleteEvicted(p, e)
	if err != nil || *o.GracePeriodSeconds != 3 || *o.Preconditions.UID != "u1" {
		t.Errorf("options %+v, error %v", o, err)
	}
	other := types.UID("u2")
	e.DeleteOptions.Preconditions = &metav1.Preconditions{UID: &other}
	if err := evictPod(t.Context(), p, e); !apierrors.IsConflict(err) {
		t.Errorf("error %v", err)
	}
}

func TestGracePeriod(t *testing.T) {
	n := func(n int64) *int64 { return &n }
	for name, tc := range map[string]struct {
		pod  func(*corev1.Pod)
		wish *int64
		want int64
	}{
		"the pod's":      {nil, nil, 30},
		"the client's":   {nil, n(5), 5},
		"at once":        {nil, n(0), 0},
		"negative":       {nil, n(-1), 1},
		"not scheduled":  {func(p *corev1.Pod) { p.Spec.NodeName = "" }, n(5), 0},
		"done":           {func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, nil, 0},
		"failed":         {func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, n(5), 0},
		"without period": {func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = nil }, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := pending()
			p.Spec.NodeName = "n1"
			if tc.pod != nil {
				tc.pod(p)
			}
			if got := podGracePeriod(p, tc.wish); got != tc.want {
				t.Errorf("%d, want %d", got, tc.want)
			}
		})
	}
}

func TestQOSClass(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		l := corev1.ResourceList{}
		for name, q := range map[corev1.ResourceName]string{corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory} {
			if q != "" {
				l[name] = resource.MustParse(q)
			}
		}
		return l
	}
	type r = corev1.ResourceRequirements
	for name, tc := range map[string]struct {
		containers []r
		pod        *r
		want       corev1.PodQOSClass
	}{
		"nothing":            {[]r{{}}, nil, corev1.PodQOSBestEffort},
		"zero":               {[]r{{Requests: list("0", "")}}, nil, corev1.PodQOSBestEffort},
		"all limited":        {[]r{{Limits: list("1", "1Gi"), Requests: list("1", "1Gi")}}, nil, corev1.PodQOSGuaranteed},
		"one not limited":    {[]r{{Limits: list("1", "1Gi"), Requests: list("1", "1Gi")}, {}}, nil, corev1.PodQOSBurstable},
		"requests less":      {[]r{{Limits: list("1", "1Gi"), Requests: list("1", "1Mi")}}, nil, corev1.PodQOSBurstable},
		"only cpu":           {[]r{{Limits: list("1", ""), Requests: list("1", "")}}, nil, corev1.PodQOSBurstable},
		"the pod as a whole": {[]r{{}}, &r{Limits: list("1", "1Gi"), Requests: list("1", "1Gi")}, corev1.PodQOSGuaranteed},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &corev1.PodSpec{Resources: tc.pod}
			for _, c := range tc.containers {
				spec.Containers = append(spec.Containers, corev1.Container{Resources: c})
			}
			if got := qosClass(spec); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

func TestStatusKeepsWhatNodesLeaveOut(t *testing.T) {
	p := pending()
	p.Status = corev1.PodStatus{QOSClass: corev1.PodQOSBurstable, ObservedGeneration: 3,
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, ObservedGeneration: 2}}}
	src := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	setPodStatus(p, src)
	if s := p.Status; s.QOSClass != corev1.PodQOSBurstable || s.ObservedGeneration != 3 || s.Conditions[0].ObservedGeneration != 2 || s.Phase != corev1.PodRunning {
		t.Errorf("status %+v", s)
	}
	p.Status.Conditions[0].Reason = "changed"
	if src.Status.Conditions[0].Reason != "" {
		t.Error("both statuses share their conditions")
	}
}

func TestSpreadAndAffinityGetThePodsOwnLabels(t *testing.T) {
	p := pending()
	p.Labels = map[string]string{"hash": "abc"}
	selector := func() *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	}
	p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{LabelSelector: selector(), MatchLabelKeys: []string{"hash", "none"}}}
	p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
		{LabelSelector: selector(), MismatchLabelKeys: []string{"hash"}}, {MatchLabelKeys: []string{"hash"}}}}}
	preparePod(t.Context(), p, nil)
	spread := metav1.FormatLabelSelector(p.Spec.TopologySpreadConstraints[0].LabelSelector)
	terms := p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if anti := metav1.FormatLabelSelector(terms[0].LabelSelector); spread != "app=web,hash in (abc)" || anti != "app=web,hash notin (abc)" || terms[1].LabelSelector != nil {
		t.Errorf("spread %q, anti-affinity %q", spread, anti)
	}
}

func TestGatedPodSaysSo(t *testing.T) {
	p := pending()
	p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}}
	preparePod(t.Context(), p, nil)
	if c := podCondition(&p.Status, corev1.PodScheduled); c == nil || c.Reason != corev1.PodReasonSchedulingGated {
		t.Errorf("conditions %+v", p.Status.Conditions)
	}
	if got := summarize(p).reason; got != "SchedulingGated" {
		t.Errorf("printed as %s", got)
	}
}

func TestWhatIsNotSupportedIsRefused(t *testing.T) {
	yes := true
	for want, change := range map[string]func(*corev1.PodSpec){
		"spec.os.name: Forbidden: Windows pods are not supported": func(s *corev1.PodSpec) { s.OS = &corev1.PodOS{Name: corev1.Windows} },
		"spec.containers[0].securityContext.windowsOptions: Forbidden: Windows pods are not supported": func(s *corev1.PodSpec) {
			s.Containers[0].SecurityContext = &corev1.SecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{HostProcess: &yes}}
		},
		"spec.containers[0].lifecycle.stopSignal: Forbidden: stop signals are not supported": func(s *corev1.PodSpec) {
			signal := corev1.SIGUSR1
			s.Containers[0].Lifecycle = &corev1.Lifecycle{StopSignal: &signal}
		},
		"spec.volumes[0].projected.sources[0].podCertificate: Forbidden: pod certificates are not supported": func(s *corev1.PodSpec) {
			s.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{}}}}}}}
		},
	} {
		t.Run(want, func(t *testing.T) {
			p := pending()
			change(&p.Spec)
			errs := validatePod(p)
			if len(errs) != 1 || errs[0].Error() != want {
				t.Errorf("errors %v", errs)
			}
		})
	}
}

func TestEphemeralContainersOnlyCome(t *testing.T) {
	debug := corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "busybox"}}
	old := pending()
	now := old.DeepCopy()
	now.Spec.EphemeralContainers = []corev1.EphemeralContainer{debug}
	defaultPod(now)
	if errs := validateEphemeralUpdate(now, old); len(errs) > 0 {
		t.Fatal(errs)
	}
	changed := now.DeepCopy()
	changed.Spec.EphemeralContainers[0].Image = "other"
	for name, tc := range map[string]struct {
		now, old *corev1.Pod
		says     string
	}{
		"changed": {changed, now, `existing ephemeral containers "debug" may not be changed`},
		"removed": {old, now, `existing ephemeral containers "debug" may not be removed`},
	} {
		if errs := validateEphemeralUpdate(tc.now, tc.old); len(errs) != 1 || !strings.Contains(errs[0].Detail, tc.says) {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

func TestPodIsPrintedInOneWord(t *testing.T) {
	state := func(reason string, code, signal int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code, Signal: signal}}
	}
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	now := metav1.Now()
	for want, p := range map[string]*corev1.Pod{
		"Pending":           {Status: corev1.PodStatus{Phase: corev1.PodPending}},
		"Evicted":           {Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"}},
		"ContainerCreating": {Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: waiting("ContainerCreating")}}}},
		"Completed":         {Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: state("Completed", 0, 0)}}}},
		"ExitCode:3":        {Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: state("", 3, 0)}}}},
		"Signal:9":          {Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: state("", 0, 9)}}}},
		"NotReady":          {Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: state("Completed", 0, 0)}, {Ready: true, State: running}}}},
		"Error":             {Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: state("Completed", 0, 0)}, {State: state("Error", 1, 0)}}}},
		"Running": {Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{State: state("Completed", 0, 0)}, {Ready: true, State: running}}}},
		"Init:0/2": {Spec: corev1.PodSpec{InitContainers: make([]corev1.Container, 2)},
			Status: corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{{State: running}}}},
		"Init:Error":            {Status: corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{{State: state("Error", 1, 0)}}}},
		"Init:ExitCode:2":       {Status: corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{{State: state("", 2, 0)}}}},
		"Init:ImagePullBackOff": {Status: corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{{State: waiting("ImagePullBackOff")}}}},
		"Terminating":           {ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}, Status: corev1.PodStatus{Phase: corev1.PodRunning}},
		"Unknown":               {ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}, Status: corev1.PodStatus{Phase: corev1.PodRunning, Reason: "NodeLost"}},
	} {
		if got := summarize(p).reason; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestNamespaceGoesInTwoSteps(t *testing.T) {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}
	prepareNamespace(t.Context(), n, nil)
	if n.Spec.Finalizers[0] != corev1.FinalizerKubernetes || n.Labels[corev1.LabelMetadataName] != "ns" {
		t.Fatalf("new namespace %+v", n)
	}
	if keep := terminateNamespace(n); !keep || n.Status.Phase != corev1.NamespaceTerminating {
		t.Fatalf("kept %v, phase %s", keep, n.Status.Phase)
	}
	changed := n.DeepCopy()
	changed.Spec.Finalizers = nil
	prepareNamespace(t.Context(), changed, n)
	if len(changed.Spec.Finalizers) != 1 {
		t.Error("an update took the finalizer away")
	}
	if err := finalizeNamespace(t.Context(), n, runtime.Object(&corev1.Namespace{})); err != nil {
		t.Fatal(err)
	}
	if terminateNamespace(n) {
		t.Error("kept without finalizers")
	}
}

func TestResize(t *testing.T) {
	old := pending()
	old.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: quantity("1"), corev1.ResourceMemory: quantity("1Gi")}
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		want   string // part of the only error, empty: none
	}{
		"more":          {func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = quantity("2") }, ""},
		"image is kept": {func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other" }, ""},
		"removed":       {func(p *corev1.Pod) { delete(p.Spec.Containers[0].Resources.Requests, corev1.ResourceCPU) }, "cannot be removed"},
		"renamed":       {func(p *corev1.Pod) { p.Spec.Containers[0].Name = "other" }, "renamed or reordered"},
		"another resource": {func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests[corev1.ResourceEphemeralStorage] = quantity("1Gi")
		}, "only cpu and memory"},
	} {
		t.Run(name, func(t *testing.T) {
			now, wish := old.DeepCopy(), old.DeepCopy()
			tc.change(wish)
			if err := resizePod(t.Context(), now, wish); err != nil {
				t.Fatal(err)
			}
			if now.Spec.Containers[0].Image != old.Spec.Containers[0].Image {
				t.Error("the image changed")
			}
			errs := validateResize(now, old)
			if tc.want == "" && len(errs) > 0 || tc.want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), tc.want)) {
				t.Errorf("errors %v", errs)
			}
		})
	}
}

func quantity(s string) apiresource.Quantity { return apiresource.MustParse(s) }
