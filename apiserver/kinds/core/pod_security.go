package core

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/kinds/check"
)

const (
	maxSysctl       = 253
	maxAppArmorName = 4095
)

// sysctlName is segments of letters, digits, dashes and underscores, between dots or slashes.
var sysctlName = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`)

// security checks the security context of the pod.
func (c *podCheck) security(path *field.Path) field.ErrorList {
	sc, at := c.spec.SecurityContext, path.Child("securityContext")
	if sc == nil {
		return nil
	}
	errs := ids(sc.RunAsUser, sc.RunAsGroup, at)
	if sc.FSGroup != nil {
		errs = append(errs, check.Each(at.Child("fsGroup"), *sc.FSGroup, validation.IsValidGroupID(*sc.FSGroup))...)
	}
	for i, g := range sc.SupplementalGroups {
		errs = append(errs, check.Each(at.Child("supplementalGroups").Index(i), g, validation.IsValidGroupID(g))...)
	}
	if deref(c.spec.ShareProcessNamespace) && c.spec.HostPID {
		errs = append(errs, field.Invalid(at.Child("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	errs = append(errs, c.sysctls(sc.Sysctls, at.Child("sysctls"))...)
	if p := sc.FSGroupChangePolicy; p != nil {
		errs = append(errs, check.Among(*p, at.Child("fsGroupChangePolicy"), corev1.FSGroupChangeOnRootMismatch, corev1.FSGroupChangeAlways)...)
	}
	if p := sc.SupplementalGroupsPolicy; p != nil {
		errs = append(errs, check.Among(*p, at.Child("supplementalGroupsPolicy"), corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
	}
	if p := sc.SELinuxChangePolicy; p != nil {
		errs = append(errs, check.Among(*p, at.Child("seLinuxChangePolicy"), corev1.SELinuxChangePolicyRecursive)...)
	}
	errs = append(errs, seccomp(sc.SeccompProfile, at.Child("seccompProfile"))...)
	return append(errs, appArmor(sc.AppArmorProfile, at.Child("appArmorProfile"))...)
}

func ids(user, group *int64, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if user != nil {
		errs = append(errs, check.Each(at.Child("runAsUser"), *user, validation.IsValidUserID(*user))...)
	}
	if group != nil {
		errs = append(errs, check.Each(at.Child("runAsGroup"), *group, validation.IsValidGroupID(*group))...)
	}
	return errs
}

// sysctls checks kernel settings; those of a namespace that the pod shares with the host are the host's own.
func (c *podCheck) sysctls(list []corev1.Sysctl, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, s := range list {
		at := path.Index(i).Child("name")
		switch {
		case s.Name == "":
			errs = append(errs, field.Required(at, ""))
		case len(s.Name) > maxSysctl || !sysctlName.MatchString(s.Name):
			errs = append(errs, field.Invalid(at, s.Name, fmt.Sprintf("must have at most %d characters and match regex %s", maxSysctl, sysctlName)))
		case seen[s.Name]:
			errs = append(errs, field.Duplicate(at, s.Name))
		}
		seen[s.Name] = true
		name := strings.ReplaceAll(s.Name, "/", ".")
		ipc := name == "kernel.sem" || strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg") || strings.HasPrefix(name, "fs.mqueue.")
		if c.spec.HostNetwork && strings.HasPrefix(name, "net.") {
			errs = append(errs, field.Invalid(at, s.Name, "may not be specified when 'hostNetwork' is true"))
		}
		if c.spec.HostIPC && ipc {
			errs = append(errs, field.Invalid(at, s.Name, "may not be specified when 'hostIPC' is true"))
		}
	}
	return errs
}

// containerSecurity checks the security context of a container.
func (c *podCheck) containerSecurity(sc *corev1.SecurityContext, at *field.Path) field.ErrorList {
	if sc == nil {
		return nil
	}
	errs := ids(sc.RunAsUser, sc.RunAsGroup, at)
	if m := sc.ProcMount; m != nil {
		errs = append(errs, check.Among(*m, at.Child("procMount"), corev1.DefaultProcMount, corev1.UnmaskedProcMount)...)
		if *m == corev1.UnmaskedProcMount && (c.spec.HostUsers == nil || *c.spec.HostUsers) {
			errs = append(errs, field.Invalid(at.Child("procMount"), *m, "`hostUsers` must be false to use `Unmasked`"))
		}
	}
	if sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation {
		if deref(sc.Privileged) {
			errs = append(errs, field.Invalid(at, sc, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if sc.Capabilities != nil {
			for _, capability := range sc.Capabilities.Add {
				if capability == "CAP_SYS_ADMIN" {
					errs = append(errs, field.Invalid(at, sc, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
				}
			}
		}
	}
	errs = append(errs, seccomp(sc.SeccompProfile, at.Child("seccompProfile"))...)
	return append(errs, appArmor(sc.AppArmorProfile, at.Child("appArmorProfile"))...)
}

// hostUsers checks that a pod with users of its own does not share other namespaces with the host.
func (c *podCheck) hostUsers(path *field.Path) field.ErrorList {
	s := c.spec
	if s.HostUsers == nil || *s.HostUsers {
		return nil
	}
	const when = "when `hostUsers` is false"
	var errs field.ErrorList
	if s.HostNetwork {
		errs = append(errs, field.Forbidden(path.Child("hostNetwork"), when))
	}
	if s.HostPID {
		errs = append(errs, field.Forbidden(path.Child("HostPID"), when))
	}
	if s.HostIPC {
		errs = append(errs, field.Forbidden(path.Child("HostIPC"), when))
	}
	eachContainer(s, path, func(ct *corev1.Container, at *field.Path) {
		if len(ct.VolumeDevices) > 0 {
			errs = append(errs, field.Forbidden(at.Child("volumeDevices"), when))
		}
	})
	return errs
}

func seccomp(p *corev1.SeccompProfile, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	var errs field.ErrorList
	if p.Type == "" {
		errs = append(errs, field.Required(at.Child("type"), "type is required when seccompProfile is set"))
	} else {
		errs = append(errs, check.Among(p.Type, at.Child("type"), corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)...)
	}
	file := at.Child("localhostProfile")
	switch local := p.Type == corev1.SeccompProfileTypeLocalhost; {
	case local && p.LocalhostProfile == nil:
		errs = append(errs, field.Required(file, "must be set when seccomp type is Localhost"))
	case local:
		errs = append(errs, descending(*p.LocalhostProfile, file)...)
	case p.LocalhostProfile != nil:
		errs = append(errs, field.Invalid(file, *p.LocalhostProfile, "can only be set when seccomp type is Localhost"))
	}
	return errs
}

func appArmor(p *corev1.AppArmorProfile, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	name := at.Child("localhostProfile")
	switch p.Type {
	case corev1.AppArmorProfileTypeLocalhost:
		if p.LocalhostProfile == nil || *p.LocalhostProfile == "" {
			return field.ErrorList{field.Required(name, "must be set when AppArmor type is Localhost")}
		}
		if strings.TrimSpace(*p.LocalhostProfile) != *p.LocalhostProfile {
			return field.ErrorList{field.Invalid(name, *p.LocalhostProfile, "must not be padded with whitespace")}
		}
		if len(*p.LocalhostProfile) > maxAppArmorName {
			return field.ErrorList{field.TooLong(name, "", maxAppArmorName)}
		}
	case corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined:
		if p.LocalhostProfile != nil {
			return field.ErrorList{field.Invalid(name, *p.LocalhostProfile, "can only be set when AppArmor type is Localhost")}
		}
	case "":
		return field.ErrorList{field.Required(at.Child("type"), "type is required when appArmorProfile is set")}
	default:
		return check.Among(p.Type, at.Child("type"), corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
	}
	return nil
}

// The annotations that were the security profiles before they were fields, and their values.
const (
	appArmorKey       = "container.apparmor.security.beta.kubernetes.io/"
	appArmorDefault   = "runtime/default"
	appArmorNone      = "unconfined"
	appArmorLocal     = "localhost/"
	seccompDefault    = "runtime/default"
	seccompDocker     = "docker/default"
	seccompUnconfined = "unconfined"
	seccompLocal      = "localhost/"
)

// appArmorOf is the profile that an annotation stands for, nil when it stands for none.
func appArmorOf(annotation string) *corev1.AppArmorProfile {
	switch name, local := strings.CutPrefix(annotation, appArmorLocal); {
	case annotation == appArmorNone:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
	case annotation == appArmorDefault:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
	case local && name != "":
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &name}
	}
	return nil
}

// appArmorToFields gives containers the profile of their annotation, where they have no field and the pod's profile is
// another.
func appArmorToFields(p *corev1.Pod) {
	var own *corev1.AppArmorProfile
	if p.Spec.SecurityContext != nil {
		own = p.Spec.SecurityContext.AppArmorProfile
	}
	eachContainer(&p.Spec, nil, func(ct *corev1.Container, _ *field.Path) {
		annotation, ok := p.Annotations[appArmorKey+ct.Name]
		if !ok || ct.SecurityContext != nil && ct.SecurityContext.AppArmorProfile != nil {
			return
		}
		profile := appArmorOf(annotation)
		if profile == nil || len(appArmor(profile, nil)) > 0 || equality.Semantic.DeepEqual(profile, own) {
			return
		}
		if ct.SecurityContext == nil {
			ct.SecurityContext = &corev1.SecurityContext{}
		}
		ct.SecurityContext.AppArmorProfile = profile
	})
}

// profileAnnotations checks the form of annotations that stand for security profiles.
func (c *podCheck) profileAnnotations(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for key, value := range c.meta.Annotations {
		if key == corev1.SeccompPodAnnotationKey || strings.HasPrefix(key, corev1.SeccompContainerAnnotationKeyPrefix) {
			at := path.Child(key)
			switch file, local := strings.CutPrefix(value, seccompLocal); {
			case value == seccompDefault, value == seccompDocker, value == seccompUnconfined:
			case local:
				errs = append(errs, descending(file, at)...)
			default:
				errs = append(errs, field.Invalid(at, value, "must be a valid seccomp profile"))
			}
		}
		if name, ok := strings.CutPrefix(key, appArmorKey); ok {
			found := false
			eachContainer(c.spec, nil, func(ct *corev1.Container, _ *field.Path) { found = found || ct.Name == name })
			if !found {
				errs = append(errs, field.Invalid(path.Key(key), name, "container not found"))
			}
			if value != "" && value != appArmorDefault && value != appArmorNone && !strings.HasPrefix(value, appArmorLocal) {
				errs = append(errs, field.Invalid(path.Key(key), value, fmt.Sprintf("invalid AppArmor profile name: %q", value)))
			}
		}
	}
	return errs
}

// profilesMatch wants annotation and field to say the same where both are there.
func (c *podCheck) profilesMatch(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	var podSeccomp *corev1.SeccompProfile
	var podAppArmor *corev1.AppArmorProfile
	if sc := c.spec.SecurityContext; sc != nil {
		podSeccomp, podAppArmor = sc.SeccompProfile, sc.AppArmorProfile
	}
	if a, ok := c.meta.Annotations[corev1.SeccompPodAnnotationKey]; ok && podSeccomp != nil {
		errs = append(errs, seccompMatches(a, podSeccomp, path.Child("securityContext", "seccompProfile"))...)
	}
	eachContainer(c.spec, path, func(ct *corev1.Container, at *field.Path) {
		at = at.Child("securityContext")
		profile := podAppArmor
		if sc := ct.SecurityContext; sc != nil {
			if a, ok := c.meta.Annotations[corev1.SeccompContainerAnnotationKeyPrefix+ct.Name]; ok && sc.SeccompProfile != nil {
				errs = append(errs, seccompMatches(a, sc.SeccompProfile, at.Child("seccompProfile"))...)
			}
			if sc.AppArmorProfile != nil {
				profile = sc.AppArmorProfile
			}
		}
		if a, ok := c.meta.Annotations[appArmorKey+ct.Name]; ok && profile != nil {
			errs = append(errs, appArmorMatches(a, profile, at.Child("appArmorProfile"))...)
		}
	})
	return errs
}

func seccompMatches(annotation string, p *corev1.SeccompProfile, at *field.Path) field.ErrorList {
	file, local := strings.CutPrefix(annotation, seccompLocal)
	same := true
	switch p.Type {
	case corev1.SeccompProfileTypeUnconfined:
		same = annotation == seccompUnconfined
	case corev1.SeccompProfileTypeRuntimeDefault:
		same = annotation == seccompDefault || annotation == seccompDocker
	case corev1.SeccompProfileTypeLocalhost:
		if same = local; same && file != deref(p.LocalhostProfile) {
			return field.ErrorList{field.Forbidden(at.Child("localhostProfile"), "seccomp profile in annotation and field must match")}
		}
	}
	if !same {
		return field.ErrorList{field.Forbidden(at.Child("type"), "seccomp type in annotation and field must match")}
	}
	return nil
}

func appArmorMatches(annotation string, p *corev1.AppArmorProfile, at *field.Path) field.ErrorList {
	name, local := strings.CutPrefix(annotation, appArmorLocal)
	same := true
	switch p.Type {
	case corev1.AppArmorProfileTypeUnconfined:
		same = annotation == appArmorNone
	case corev1.AppArmorProfileTypeRuntimeDefault:
		same = annotation == appArmorDefault
	case corev1.AppArmorProfileTypeLocalhost:
		if same = local; same && name != deref(p.LocalhostProfile) {
			return field.ErrorList{field.Forbidden(at.Child("localhostProfile"), "apparmor profile in annotation and field must match")}
		}
	}
	if !same {
		return field.ErrorList{field.Forbidden(at.Child("type"), "apparmor type in annotation and field must match")}
	}
	return nil
}
