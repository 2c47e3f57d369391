package compose

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"hardway/nodeagent/podsource/fields"
	"hardway/nodeagent/podsource/objects"
)

// variables is a container's environment while it is being worked out, in the order of declaration.
type variables struct {
	order    []string
	values   map[string]string
	services map[string]string // lowest precedence; references may name them
}

func (v *variables) set(name, value string) {
	if _, ok := v.values[name]; !ok {
		v.order = append(v.order, name)
	}
	v.values[name] = value
}

// lookup serves $(NAME) references.
func (v *variables) lookup(name string) (string, bool) {
	if s, ok := v.values[name]; ok {
		return s, true
	}
	s, ok := v.services[name]
	return s, ok
}

// list returns the final environment: the services' variables, then the container's. The runtime adds the image's.
func (v *variables) list() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(v.services)) {
		if _, own := v.values[name]; !own {
			out = append(out, name+"="+v.services[name])
		}
	}
	for _, name := range v.order {
		out = append(out, name+"="+v.values[name])
	}
	return out
}

// environment works out a container's variables from envFrom and env.
func environment(ctx context.Context, pod Pod, c *corev1.Container, node Node) (*variables, error) {
	v := &variables{values: map[string]string{}, services: serviceVariables(pod)}
	for _, from := range c.EnvFrom {
		if err := v.from(ctx, pod, from); err != nil {
			return nil, err
		}
	}
	for _, e := range c.Env {
		value, ok := expand(e.Value, v.lookup), true
		if e.Value == "" && e.ValueFrom != nil {
			var err error
			if value, ok, err = valueFrom(ctx, pod, c, e.ValueFrom, node); err != nil {
				return nil, err
			}
		}
		if ok {
			v.set(e.Name, value)
		}
	}
	return v, nil
}

func (v *variables) from(ctx context.Context, pod Pod, f corev1.EnvFromSource) error {
	switch {
	case f.ConfigMapRef != nil:
		cm, err := pod.Objects.ConfigMap(ctx, pod.Namespace, f.ConfigMapRef.Name)
		if err != nil {
			return unlessOptional(err, f.ConfigMapRef.Optional)
		}
		for _, k := range slices.Sorted(maps.Keys(cm.Data)) {
			v.set(f.Prefix+k, cm.Data[k])
		}
	case f.SecretRef != nil:
		s, err := pod.Objects.Secret(ctx, pod.Namespace, f.SecretRef.Name)
		if err != nil {
			return unlessOptional(err, f.SecretRef.Optional)
		}
		for _, k := range slices.Sorted(maps.Keys(s.Data)) {
			v.set(f.Prefix+k, string(s.Data[k]))
		}
	}
	return nil
}

// unlessOptional forgives a missing object that the pod can do without.
func unlessOptional(err error, optional *bool) error {
	if optional != nil && *optional && objects.IsMissing(err) {
		return nil
	}
	return err
}

// valueFrom returns the value of a reference; false means that it is optional and not there.
func valueFrom(ctx context.Context, pod Pod, c *corev1.Container, s *corev1.EnvVarSource, node Node) (string, bool, error) {
	switch {
	case s.FieldRef != nil:
		value, err := fields.Field(pod.Pod, node.Node, pod.IPs, s.FieldRef.FieldPath)
		return value, true, err
	case s.ResourceFieldRef != nil:
		value, err := fields.Resource(pod.Pod, node.Node, c, s.ResourceFieldRef)
		return value, true, err
	case s.ConfigMapKeyRef != nil:
		r := s.ConfigMapKeyRef
		cm, err := pod.Objects.ConfigMap(ctx, pod.Namespace, r.Name)
		if err != nil {
			return "", false, unlessOptional(err, r.Optional)
		}
		value, ok := cm.Data[r.Key]
		if !ok && !(r.Optional != nil && *r.Optional) {
			return "", false, fmt.Errorf("couldn't find key %v in ConfigMap %v/%v", r.Key, pod.Namespace, r.Name)
		}
		return value, ok, nil
	case s.SecretKeyRef != nil:
		r := s.SecretKeyRef
		secret, err := pod.Objects.Secret(ctx, pod.Namespace, r.Name)
		if err != nil {
			return "", false, unlessOptional(err, r.Optional)
		}
		value, ok := secret.Data[r.Key]
		if !ok && !(r.Optional != nil && *r.Optional) {
			return "", false, fmt.Errorf("couldn't find key %v in Secret %v/%v", r.Key, pod.Namespace, r.Name)
		}
		return string(value), ok, nil
	default:
		return "", false, fmt.Errorf("this kind of environment variable source is not supported by this node")
	}
}

// serviceVariables are the {NAME}_SERVICE_HOST family: for the services of the pod's namespace unless it declines, and
// always for the API's own service.
func serviceVariables(pod Pod) map[string]string {
	out := map[string]string{}
	links := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	for _, own := range []bool{false, true} {
		for _, s := range pod.Services {
			api := s.Namespace == "default" && s.Name == "kubernetes"
			local := s.Namespace == pod.Namespace && links
			if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || local != own || !api && !local {
				continue
			}
			oneService(out, s)
		}
	}
	return out
}

func oneService(out map[string]string, s *corev1.Service) {
	name := variableName(s.Name)
	out[name+"_SERVICE_HOST"] = s.Spec.ClusterIP
	for i, p := range s.Spec.Ports {
		protocol := strings.ToLower(string(p.Protocol))
		if protocol == "" {
			protocol = "tcp"
		}
		port := strconv.Itoa(int(p.Port))
		address := protocol + "://" + net.JoinHostPort(s.Spec.ClusterIP, port)
		if i == 0 {
			out[name+"_SERVICE_PORT"] = port
			out[name+"_PORT"] = address
		}
		if p.Name != "" {
			out[name+"_SERVICE_PORT_"+variableName(p.Name)] = port
		}
		prefix := name + "_PORT_" + port + "_" + strings.ToUpper(protocol)
		out[prefix] = address
		out[prefix+"_PROTO"] = protocol
		out[prefix+"_PORT"] = port
		out[prefix+"_ADDR"] = s.Spec.ClusterIP
	}
}

func variableName(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }
