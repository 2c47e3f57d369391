// Package payload works out which files a ConfigMap, a Secret or the downward API puts into a volume. It is pure but
// for looking the objects up, and shared by the volume types that show one source and the one that shows several.
package payload

import (
	"context"
	"fmt"
	"maps"
	"os"

	corev1 "k8s.io/api/core/v1"

	"hardway/nodeagent/podsource/fields"
	"hardway/nodeagent/podsource/objects"
	"hardway/nodeagent/volume/atomicdir"
)

// DefaultMode is the mode of files whose volume names none.
const DefaultMode os.FileMode = 0o644

// Objects looks up the API objects that a pod refers to.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// Files is a set of files by path.
type Files = map[string]atomicdir.File

// ConfigMap returns the files of a ConfigMap: all keys, or the items asked for.
func ConfigMap(ctx context.Context, o Objects, namespace, name string, items []corev1.KeyToPath, mode *int32, optional *bool) (Files, error) {
	c, err := o.ConfigMap(ctx, namespace, name)
	if err != nil {
		if objects.IsMissing(err) && optional != nil && *optional {
			return Files{}, nil
		}
		return nil, err
	}
	data := make(map[string][]byte, len(c.Data)+len(c.BinaryData))
	for k, v := range c.Data {
		data[k] = []byte(v)
	}
	maps.Copy(data, c.BinaryData)
	return pick("config", data, items, mode, optional)
}

// Secret returns the files of a Secret: all keys, or the items asked for.
func Secret(ctx context.Context, o Objects, namespace, name string, items []corev1.KeyToPath, mode *int32, optional *bool) (Files, error) {
	s, err := o.Secret(ctx, namespace, name)
	if err != nil {
		if objects.IsMissing(err) && optional != nil && *optional {
			return Files{}, nil
		}
		return nil, err
	}
	return pick("secret", s.Data, items, mode, optional)
}

func pick(kind string, data map[string][]byte, items []corev1.KeyToPath, mode *int32, optional *bool) (Files, error) {
	out := Files{}
	if len(items) == 0 {
		for k, v := range data {
			out[k] = atomicdir.File{Data: v, Mode: fileMode(nil, mode)}
		}
		return out, nil
	}
	for _, i := range items {
		v, ok := data[i.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return nil, fmt.Errorf("references non-existent %s key: %s", kind, i.Key)
		}
		out[i.Path] = atomicdir.File{Data: v, Mode: fileMode(i.Mode, mode)}
	}
	return out, nil
}

// Downward returns the files of a downward API volume.
func Downward(pod *corev1.Pod, node fields.Node, items []corev1.DownwardAPIVolumeFile, mode *int32) (Files, error) {
	out := Files{}
	for _, i := range items {
		var value string
		var err error
		switch {
		case i.FieldRef != nil:
			value, err = fields.Field(pod, node, nil, i.FieldRef.FieldPath)
		case i.ResourceFieldRef != nil:
			value, err = fields.Resource(pod, node, nil, i.ResourceFieldRef)
		default:
			err = fmt.Errorf("downwardAPI item %q has no source", i.Path)
		}
		if err != nil {
			return nil, err
		}
		out[i.Path] = atomicdir.File{Data: []byte(value), Mode: fileMode(i.Mode, mode)}
	}
	return out, nil
}

func fileMode(item, volume *int32) os.FileMode {
	switch {
	case item != nil:
		return os.FileMode(*item)
	case volume != nil:
		return os.FileMode(*volume)
	default:
		return DefaultMode
	}
}
