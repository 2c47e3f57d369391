package compose

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"hardway/nodeagent/runtime"
)

const (
	hostsFile    = "/etc/hosts"
	resolvFile   = "/etc/resolv.conf"
	hostnameFile = "/etc/hostname"
)

// MessageFile is where a container instance leaves its termination message on the node.
func MessageFile(podDir, container string, attempt int) string {
	return filepath.Join(podDir, "containers", container, strconv.Itoa(attempt))
}

// NodeFile is where a file that all containers of a pod share is kept: hosts, resolv.conf or hostname.
func NodeFile(podDir, target string) string {
	return filepath.Join(podDir, "etc", filepath.Base(target))
}

// mountsOf lists the mounts of a container: its volumes, then the files of the node where no volume covers them.
func mountsOf(pod Pod, c *corev1.Container, attempt int, lookup func(string) (string, bool)) ([]runtime.Mount, error) {
	var out []runtime.Mount
	for i := range c.VolumeMounts {
		m, err := volumeMount(pod, c, &c.VolumeMounts[i], lookup)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	readOnly := c.SecurityContext != nil && c.SecurityContext.ReadOnlyRootFilesystem != nil && *c.SecurityContext.ReadOnlyRootFilesystem
	for _, file := range []string{hostsFile, hostnameFile, resolvFile} {
		if !covered(out, file) {
			out = append(out, runtime.Mount{Source: NodeFile(pod.Dir, file), Target: file, ReadOnly: readOnly && file != hostsFile})
		}
	}
	message := c.TerminationMessagePath
	if message == "" {
		message = corev1.TerminationMessagePathDefault
	}
	if !covered(out, message) {
		out = append(out, runtime.Mount{Source: MessageFile(pod.Dir, c.Name, attempt), Target: message})
	}
	slices.SortStableFunc(out, func(a, b runtime.Mount) int {
		return strings.Count(filepath.Clean(a.Target), "/") - strings.Count(filepath.Clean(b.Target), "/")
	})
	return out, nil
}

// devicesOf lists the block volumes of a container. A volume that may only be read is not written to through the device.
func devicesOf(pod Pod, c *corev1.Container) ([]runtime.Device, error) {
	var out []runtime.Device
	for _, d := range c.VolumeDevices {
		source, ok := pod.Volumes[d.Name]
		if !ok {
			return nil, fmt.Errorf("cannot find volume %q to pass into container %q", d.Name, c.Name)
		}
		access := "rwm"
		if v := volumeNamed(pod.Pod, d.Name); v != nil && v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly {
			access = "rm"
		}
		out = append(out, runtime.Device{Host: source, Path: d.DevicePath, Access: access})
	}
	return out, nil
}

func volumeNamed(pod *corev1.Pod, name string) *corev1.Volume {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == name {
			return &pod.Spec.Volumes[i]
		}
	}
	return nil
}

func covered(mounts []runtime.Mount, target string) bool {
	return slices.ContainsFunc(mounts, func(m runtime.Mount) bool { return filepath.Clean(m.Target) == target })
}

func volumeMount(pod Pod, c *corev1.Container, m *corev1.VolumeMount, lookup func(string) (string, bool)) (runtime.Mount, error) {
	source, ok := pod.Volumes[m.Name]
	if !ok {
		return runtime.Mount{}, fmt.Errorf("cannot find volume %q to mount into container %q", m.Name, c.Name)
	}
	sub := m.SubPath
	if m.SubPathExpr != "" {
		missing := ""
		sub = expand(m.SubPathExpr, func(name string) (string, bool) {
			v, ok := lookup(name)
			if !ok {
				missing = name
			}
			return v, ok
		})
		if missing != "" {
			return runtime.Mount{}, fmt.Errorf("missing value for %q in subPathExpr %q", missing, m.SubPathExpr)
		}
	}
	if sub != "" {
		if filepath.IsAbs(sub) {
			return runtime.Mount{}, fmt.Errorf("error SubPath `%s` must not be an absolute path", sub)
		}
		if slices.Contains(strings.Split(sub, "/"), "..") {
			return runtime.Mount{}, fmt.Errorf("unable to provision SubPath `%s`: must not contain '..'", sub)
		}
	}
	target := m.MountPath
	if !filepath.IsAbs(target) {
		target = "/" + target
	}
	out := runtime.Mount{Source: source, Target: target, ReadOnly: m.ReadOnly, SubPath: sub}
	if r := m.RecursiveReadOnly; m.ReadOnly && r != nil && *r != corev1.RecursiveReadOnlyDisabled {
		out.Recursive = true
	}
	if p := m.MountPropagation; p != nil {
		switch *p {
		case corev1.MountPropagationHostToContainer:
			out.Propagation = "rslave"
		case corev1.MountPropagationBidirectional:
			out.Propagation = "rshared"
		}
	}
	if isObject(pod.Pod, m.Name) {
		out.ReadOnly = true
	}
	return out, nil
}

// isObject says whether a volume shows API objects: those are always mounted read-only.
func isObject(pod *corev1.Pod, name string) bool {
	v := volumeNamed(pod, name)
	return v != nil && (v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil)
}
