package core

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const matchesNothing = "a null labelSelector results in matching no pod"

// oldNodeLabels are labels of nodes that have new names.
var oldNodeLabels = map[string]string{
	"beta.kubernetes.io/arch":                  `deprecated since v1.14; use "kubernetes.io/arch" instead`,
	"beta.kubernetes.io/os":                    `deprecated since v1.14; use "kubernetes.io/os" instead`,
	"failure-domain.beta.kubernetes.io/region": `deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
	"failure-domain.beta.kubernetes.io/zone":   `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
	"beta.kubernetes.io/instance-type":         `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`,
	"node-role.kubernetes.io/master":           `use "node-role.kubernetes.io/control-plane" instead`,
}

// OldNodeLabel says what a label of nodes is called now, or nothing when its name is not old.
func OldNodeLabel(key string) string { return oldNodeLabels[key] }

// oldAnnotations are annotations of pods that no longer do anything.
var oldAnnotations = [][2]string{
	{"scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`},
	{"security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
	{"security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
}

// warner collects the warnings about one pod or template; root is where it lies.
type warner struct {
	root *field.Path
	list []string
}

func (w *warner) add(path *field.Path, format string, args ...any) {
	w.list = append(w.list, fmt.Sprintf("%s: %s", path, fmt.Sprintf(format, args...)))
}

func warnPodSpec(meta *metav1.ObjectMeta, s *corev1.PodSpec, root *field.Path) []string {
	w := &warner{root: root}
	w.labels(s)
	w.annotations(meta, s)
	w.volumes(s)
	w.lists(s)
	w.containers(s)
	w.ports(s)
	return w.list
}

func (w *warner) labels(s *corev1.PodSpec) {
	spec := w.root.Child("spec")
	for key := range s.NodeSelector {
		if msg, old := oldNodeLabels[key]; old {
			w.add(spec.Child("nodeSelector").Key(key), "%s", msg)
		}
	}
	for i, c := range s.TopologySpreadConstraints {
		at := spec.Child("topologySpreadConstraints").Index(i)
		if msg, old := oldNodeLabels[c.TopologyKey]; old {
			w.add(at.Child("topologyKey"), "%s is %s", c.TopologyKey, msg)
		}
		if c.LabelSelector == nil {
			w.add(at.Child("labelSelector"), matchesNothing)
		}
	}
	if s.Affinity == nil {
		return
	}
	at := spec.Child("affinity")
	if n := s.Affinity.NodeAffinity; n != nil {
		w.nodeTerms(n, at.Child("nodeAffinity"))
	}
	if a := s.Affinity.PodAffinity; a != nil {
		w.podTerms(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAffinity"))
	}
	if a := s.Affinity.PodAntiAffinity; a != nil {
		w.podTerms(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAntiAffinity"))
	}
}

func (w *warner) nodeTerms(n *corev1.NodeAffinity, path *field.Path) {
	term := func(t corev1.NodeSelectorTerm, at *field.Path) {
		for i, e := range t.MatchExpressions {
			if msg, old := oldNodeLabels[e.Key]; old {
				w.add(at.Child("matchExpressions").Index(i).Child("key"), "%s is %s", e.Key, msg)
			}
		}
	}
	if r := n.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
		for i, t := range r.NodeSelectorTerms {
			term(t, path.Child(requiredRules, "nodeSelectorTerms").Index(i))
		}
	}
	for i, t := range n.PreferredDuringSchedulingIgnoredDuringExecution {
		at := path.Child(preferredRules).Index(i).Child("preference")
		term(t.Preference, at)
		for j, e := range t.Preference.MatchExpressions {
			for k, v := range e.Values {
				for _, msg := range validation.IsValidLabelValue(v) {
					w.add(at.Child("matchExpressions").Index(j).Child("values").Index(k), "%s is invalid, %s", v, msg)
				}
			}
		}
	}
}

func (w *warner) podTerms(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm, path *field.Path) {
	for i, t := range required {
		if t.LabelSelector == nil {
			w.add(path.Child(requiredRules).Index(i).Child("labelSelector"), matchesNothing)
		}
	}
	for i, t := range preferred {
		if t.PodAffinityTerm.LabelSelector == nil {
			w.add(path.Child(preferredRules).Index(i).Child("podAffinityTerm", "labelSelector"), matchesNothing)
		}
	}
}

func (w *warner) annotations(meta *metav1.ObjectMeta, s *corev1.PodSpec) {
	at := w.root.Child("metadata", "annotations")
	for _, old := range oldAnnotations {
		if _, ok := meta.Annotations[old[0]]; ok {
			w.add(at.Key(old[0]), "%s", old[1])
		}
	}
	const useSeccomp = `non-functional in v1.27+; use the "seccompProfile" field instead`
	if _, ok := meta.Annotations[corev1.SeccompPodAnnotationKey]; ok && (s.SecurityContext == nil || s.SecurityContext.SeccompProfile == nil) {
		w.add(at.Key(corev1.SeccompPodAnnotationKey), useSeccomp)
	}
	eachContainer(s, nil, func(c *corev1.Container, _ *field.Path) {
		key := corev1.SeccompContainerAnnotationKeyPrefix + c.Name
		if _, ok := meta.Annotations[key]; ok && (c.SecurityContext == nil || c.SecurityContext.SeccompProfile == nil) {
			w.add(at.Key(key), useSeccomp)
		}
		if key := appArmorKey + c.Name; meta.Annotations[key] != "" {
			w.add(at.Key(key), `deprecated since v1.30; use the "appArmorProfile" field instead`)
		}
	})
}

func (w *warner) volumes(s *corev1.PodSpec) {
	for i, v := range s.Volumes {
		at := w.root.Child("spec", "volumes").Index(i)
		for _, old := range []struct {
			used      bool
			name, why string
		}{
			{v.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
			{v.GitRepo != nil, "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"},
			{v.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
			{v.Flocker != nil, "flocker", "deprecated in v1.22, non-functional in v1.25+"},
			{v.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Quobyte != nil, "quobyte", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
			{v.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
			{v.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
		} {
			if old.used {
				w.add(at.Child(old.name), "%s", old.why)
			}
		}
	}
}

// lists warns of what stands twice where apply would keep one of it, and of addresses written in an odd form.
func (w *warner) lists(s *corev1.PodSpec) {
	spec := w.root.Child("spec")
	seen := map[string]bool{}
	for i, a := range s.HostAliases {
		at := spec.Child("hostAliases").Index(i).Child("ip")
		if seen[a.IP] {
			w.add(at, "duplicate ip %q", a.IP)
		}
		seen[a.IP] = true
		w.list = append(w.list, validation.GetWarningsForIP(at, a.IP)...)
	}
	clear(seen)
	for i, p := range s.ImagePullSecrets {
		at := spec.Child("imagePullSecrets").Index(i).Child("name")
		if seen[p.Name] {
			w.add(at, "duplicate name %q", p.Name)
		}
		if p.Name == "" {
			w.add(at, "invalid empty name %q", p.Name)
		}
		seen[p.Name] = true
	}
	if s.DNSConfig != nil {
		for i, ns := range s.DNSConfig.Nameservers {
			w.list = append(w.list, validation.GetWarningsForIP(spec.Child("dnsConfig", "nameservers").Index(i), ns)...)
		}
	}
	if g := s.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		w.add(spec.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	w.fractions(s.Overhead, spec.Child("overhead"))
}

// fractions warns of parts of bytes.
func (w *warner) fractions(list corev1.ResourceList, path *field.Path) {
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if q, ok := list[name]; ok && q.MilliValue()%1000 != 0 {
			w.add(path.Key(string(name)), "fractional byte value %q is invalid, must be an integer", q.String())
		}
	}
}

func (w *warner) containers(s *corev1.PodSpec) {
	eachContainer(s, w.root.Child("spec"), func(c *corev1.Container, at *field.Path) {
		w.fractions(c.Resources.Limits, at.Child("resources", "limits"))
		w.fractions(c.Resources.Requests, at.Child("resources", "requests"))
		seen := map[string]bool{}
		for i, v := range c.Env {
			// A variable may build on its earlier self, but not replace it.
			self := "$(" + v.Name + ")"
			if seen[v.Name] && (v.ValueFrom != nil || v.Value == self || !strings.Contains(v.Value, self)) {
				w.add(at.Child("env").Index(i), "hides previous definition of %q, which may be dropped when using apply", v.Name)
			}
			seen[v.Name] = true
		}
	})
}

func (w *warner) ports(s *corev1.PodSpec) {
	type place struct {
		at   *field.Path
		port corev1.ContainerPort
	}
	numbers, names := map[string][]place{}, map[string]*field.Path{}
	eachContainer(s, w.root.Child("spec"), func(c *corev1.Container, path *field.Path) {
		for i, p := range c.Ports {
			at := path.Child("ports").Index(i)
			if p.HostIP != "" && p.HostPort == 0 {
				w.add(at, "hostIP set without hostPort: %+v", p)
			}
			key := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
			for _, o := range numbers[key] {
				switch {
				case p.HostIP == o.port.HostIP && p.HostPort == o.port.HostPort:
					w.add(at, "duplicate port definition with %s", o.at)
				case p.HostPort == 0 || o.port.HostPort == 0:
					w.add(at, "overlapping port definition with %s", o.at)
				case p.HostPort == o.port.HostPort && (p.HostIP == "") != (o.port.HostIP == ""):
					w.add(at, "dangerously ambiguous port definition with %s", o.at)
				}
			}
			numbers[key] = append(numbers[key], place{at, p})
			if p.Name == "" {
				continue
			}
			if other := names[p.Name]; other != nil {
				w.add(at, "duplicate port name %q with %s, services and probes that select ports by name will use %s", p.Name, other, other)
			} else {
				names[p.Name] = at
			}
		}
	})
}
