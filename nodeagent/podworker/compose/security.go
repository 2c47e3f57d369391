package compose

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"

	"hardway/nodeagent/runtime"
)

// runAs returns the user as the runtime takes it, "uid[:gid]" or a name of the image, and refuses root where the pod
// forbids it.
func runAs(pod *corev1.Pod, c *corev1.Container, image Image) (string, error) {
	user, group := userAndGroup(pod, c)
	where := fmt.Sprintf("(pod: %q, container: %s)", pod.Name+"_"+pod.Namespace+"("+string(pod.UID)+")", c.Name)
	if nonRoot(pod, c) {
		name, _, _ := strings.Cut(image.User, ":")
		uid, err := strconv.ParseInt(name, 10, 64)
		switch {
		case user != nil && *user == 0:
			return "", fmt.Errorf("container's runAsUser breaks non-root policy %s", where)
		case user != nil:
		case name == "" || err == nil && uid == 0:
			return "", fmt.Errorf("container has runAsNonRoot and image will run as root %s", where)
		case err != nil:
			return "", fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", name, where)
		}
	}
	out := image.User
	if user != nil {
		out = strconv.FormatInt(*user, 10)
	}
	if group != nil {
		name, _, _ := strings.Cut(out, ":")
		if name == "" {
			name = "0"
		}
		out = name + ":" + strconv.FormatInt(*group, 10)
	}
	return out, nil
}

// userAndGroup: the container's wish comes before the pod's.
func userAndGroup(pod *corev1.Pod, c *corev1.Container) (user, group *int64) {
	if s := pod.Spec.SecurityContext; s != nil {
		user, group = s.RunAsUser, s.RunAsGroup
	}
	if s := c.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			user = s.RunAsUser
		}
		if s.RunAsGroup != nil {
			group = s.RunAsGroup
		}
	}
	return user, group
}

func nonRoot(pod *corev1.Pod, c *corev1.Container) bool {
	if s := c.SecurityContext; s != nil && s.RunAsNonRoot != nil {
		return *s.RunAsNonRoot
	}
	s := pod.Spec.SecurityContext
	return s != nil && s.RunAsNonRoot != nil && *s.RunAsNonRoot
}

// groups are the supplementary groups of the pod: its fsGroup and those it lists.
func groups(pod *corev1.Pod) []int64 {
	s := pod.Spec.SecurityContext
	if s == nil {
		return nil
	}
	var out []int64
	if s.FSGroup != nil {
		out = append(out, *s.FSGroup)
	}
	return append(out, s.SupplementalGroups...)
}

// strictGroups says whether the image's own groups of the user are left out.
func strictGroups(pod *corev1.Pod) bool {
	s := pod.Spec.SecurityContext
	return s != nil && s.SupplementalGroupsPolicy != nil && *s.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict
}

func securityOf(pod *corev1.Pod, c *corev1.Container, node Node) (runtime.Security, error) {
	out := runtime.Security{}
	s := c.SecurityContext
	if s == nil {
		s = &corev1.SecurityContext{}
	}
	out.Privileged = isTrue(s.Privileged)
	out.ReadOnlyRoot = isTrue(s.ReadOnlyRootFilesystem)
	out.NoNewPrivileges = s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation
	out.UnmaskedProc = s.ProcMount != nil && *s.ProcMount == corev1.UnmaskedProcMount
	if s.Capabilities != nil {
		out.AddCapabilities = capabilities(s.Capabilities.Add)
		out.DropCapabilities = capabilities(s.Capabilities.Drop)
	}
	profile := s.SeccompProfile
	if profile == nil && pod.Spec.SecurityContext != nil {
		profile = pod.Spec.SecurityContext.SeccompProfile
	}
	var err error
	out.Seccomp, err = seccomp(profile, node)
	if out.Privileged {
		out.Seccomp = string(corev1.SeccompProfileTypeUnconfined)
	}
	return out, err
}

// seccomp names the filter. A Localhost profile must say which one: an empty name never means "none".
func seccomp(p *corev1.SeccompProfile, node Node) (string, error) {
	switch {
	case p == nil && node.SeccompDefault:
		return string(corev1.SeccompProfileTypeRuntimeDefault), nil
	case p == nil:
		return string(corev1.SeccompProfileTypeUnconfined), nil
	case p.Type == corev1.SeccompProfileTypeLocalhost:
		if p.LocalhostProfile == nil || !filepath.IsLocal(*p.LocalhostProfile) {
			return "", fmt.Errorf("localhostProfile must be set to a path below %s if seccompProfile type is Localhost", node.SeccompDir)
		}
		return "Localhost:" + filepath.Join(node.SeccompDir, *p.LocalhostProfile), nil
	case p.Type == corev1.SeccompProfileTypeRuntimeDefault || p.Type == corev1.SeccompProfileTypeUnconfined:
		return string(p.Type), nil
	default:
		return "", fmt.Errorf("seccompProfile type %q is unknown", p.Type)
	}
}

func capabilities(list []corev1.Capability) []string {
	var out []string
	for _, c := range list {
		out = append(out, strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_"))
	}
	slices.Sort(out)
	return out
}

// StopSignal is the signal that the container asks to be stopped with; 0 leaves it to the image.
func StopSignal(c *corev1.Container) (syscall.Signal, error) {
	if c.Lifecycle == nil || c.Lifecycle.StopSignal == nil {
		return 0, nil
	}
	sig, err := runtime.ParseSignal(string(*c.Lifecycle.StopSignal))
	if err != nil {
		return 0, fmt.Errorf("container %s: stopSignal: %w", c.Name, err)
	}
	return sig, nil
}

func isTrue(b *bool) bool { return b != nil && *b }
