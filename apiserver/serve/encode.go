package serve

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"hardway/apiserver/cache"
	"hardway/apiserver/resource"
	"hardway/apiserver/table"
)

// entity is one object on its way out: from the cache, whose encodings are shared, or on its own.
type entity struct {
	item *cache.Item // nil: only obj
	obj  resource.Object
}

func fromItem(it *cache.Item) entity { return entity{item: it, obj: it.Object} }

// protoMessage is what all published types are.
type protoMessage interface {
	Size() int
	Marshal() ([]byte, error)
	MarshalTo([]byte) (int, error)
}

// encode returns the object as the media wants it, apiVersion and kind included: JSON text, or a protobuf message
// without its envelope. The bytes may be shared: read only.
func (e *endpoint) encode(m media, x entity) ([]byte, error) {
	name := m.encoding.String()
	if m.encoding == inYAML {
		name = mediaJSON // made of JSON at the end
	}
	if m.shape == asPartial || m.shape == asPartialList {
		name += ";as=PartialObjectMetadata;v=" + m.version
	}
	if x.item != nil {
		if name == mediaProtobuf && e.version == nil {
			return x.item.AppendProto(make([]byte, 0, x.item.ProtoSize()))
		}
		return x.item.Encoded(name, e.gvk.GroupVersion(), func(it *cache.Item) ([]byte, error) {
			return e.encodeFresh(m, it.Object)
		})
	}
	return e.encodeFresh(m, x.obj)
}

func (e *endpoint) encodeFresh(m media, obj resource.Object) ([]byte, error) {
	var out runtime.Object
	if m.shape == asPartial || m.shape == asPartialList {
		out = partial(obj, m.version)
	} else {
		var err error
		if out, err = e.outgoing(obj); err != nil {
			return nil, err
		}
	}
	if m.encoding == inProtobuf {
		return protoBytes(out)
	}
	return json.Marshal(out)
}

func protoBytes(obj runtime.Object) ([]byte, error) {
	p, ok := obj.(protoMessage)
	if !ok {
		return nil, fmt.Errorf("%T has no protobuf encoding", obj)
	}
	return p.Marshal()
}

func partial(obj metav1.Object, version string) *metav1.PartialObjectMetadata {
	out := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: metav1.GroupName + "/" + version}}
	switch o := obj.(type) {
	case metav1.ObjectMetaAccessor:
		if om, ok := o.GetObjectMeta().(*metav1.ObjectMeta); ok {
			out.ObjectMeta = *om
		}
	case *unstructured.Unstructured:
		if content, ok := o.Object["metadata"].(map[string]any); ok {
			// What cannot be read as metadata was refused or repaired when it came in.
			_ = runtime.DefaultUnstructuredConverter.FromUnstructured(content, &out.ObjectMeta)
		}
	}
	return out
}

// whole returns the complete body of an answer with one object.
func (e *endpoint) whole(m media, x entity, include metav1.IncludeObjectPolicy) ([]byte, error) {
	if m.shape == asTable {
		text, err := e.tableOf(m, x, include, true)
		if err != nil {
			return nil, err
		}
		return finish(m, text)
	}
	b, err := e.encode(m, x)
	if err != nil {
		return nil, err
	}
	if m.encoding == inProtobuf {
		gvk := e.gvk
		if m.shape == asPartial {
			gvk = schema.GroupVersionKind{Group: metav1.GroupName, Version: m.version, Kind: "PartialObjectMetadata"}
		}
		return envelope(gvk, b), nil
	}
	return finish(m, b)
}

// finish turns compact JSON into what the media wants: itself, indented, or YAML.
func finish(m media, text []byte) ([]byte, error) {
	switch {
	case m.encoding == inYAML:
		return yaml.JSONToYAML(text)
	case m.pretty:
		var out bytes.Buffer
		if err := json.Indent(&out, text, "", "  "); err != nil {
			return nil, err
		}
		out.WriteByte('\n')
		return out.Bytes(), nil
	}
	return text, nil
}

// tableOf is a Table of one row.
func (e *endpoint) tableOf(m media, x entity, include metav1.IncludeObjectPolicy, headers bool) ([]byte, error) {
	text, err := table.Head(e.kind, m.version, metav1.ListMeta{ResourceVersion: x.obj.GetResourceVersion()}, headers)
	if err != nil {
		return nil, err
	}
	row, err := e.row(m, x, include)
	if err != nil {
		return nil, err
	}
	text = append(text, row...)
	return append(text, "]}"...), nil
}

// row is one TableRow as JSON.
func (e *endpoint) row(m media, x entity, include metav1.IncludeObjectPolicy) ([]byte, error) {
	row := table.Row{Cells: table.Cells(e.kind, x.obj), Object: []byte("null")}
	var err error
	switch include {
	case metav1.IncludeNone:
	case metav1.IncludeObject:
		row.Object, err = e.encode(media{}, x)
	default:
		row.Object, err = e.encode(media{shape: asPartial, version: m.version}, x)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(row)
}

// encodeOther returns the body of an answer that is no object of an endpoint: a Status, a Scale, a discovery document.
// Its apiVersion and kind are set.
func encodeOther(m media, obj runtime.Object) ([]byte, error) {
	if m.encoding == inProtobuf {
		if _, ok := obj.(protoMessage); ok {
			b, err := protoBytes(obj)
			if err != nil {
				return nil, err
			}
			return envelope(obj.GetObjectKind().GroupVersionKind(), b), nil
		}
		m.encoding = inJSON
	}
	text, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	return finish(m, text)
}

// protoMagic begins every protobuf body.
const protoMagic = "k8s\x00"

// envelope wraps a protobuf message into the body that says what it is.
func envelope(gvk schema.GroupVersionKind, message []byte) []byte {
	out := envelopeHead(make([]byte, 0, len(message)+128), gvk, len(message))
	return append(append(out, message...), envelopeTail...)
}

// envelopeTail is the two empty fields, contentEncoding and contentType, that end runtime.Unknown.
var envelopeTail = []byte{0x1a, 0x00, 0x22, 0x00}

// envelopeHead appends the envelope up to a message of size bytes: the magic, then runtime.Unknown{typeMeta, raw}.
func envelopeHead(dst []byte, gvk schema.GroupVersionKind, size int) []byte {
	apiVersion, kind := gvk.GroupVersion().String(), gvk.Kind
	dst = append(dst, protoMagic...)
	dst = append(dst, 0x0a)
	dst = binary.AppendUvarint(dst, uint64(2+uvarintLen(len(apiVersion))+len(apiVersion)+uvarintLen(len(kind))+len(kind)))
	dst = appendBytesField(dst, 0x0a, apiVersion)
	dst = appendBytesField(dst, 0x12, kind)
	dst = append(dst, 0x12)
	return binary.AppendUvarint(dst, uint64(size))
}

func appendBytesField[T string | []byte](dst []byte, tag byte, value T) []byte {
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}

func uvarintLen(n int) int {
	length := 1
	for v := uint64(n); v >= 0x80; v >>= 7 {
		length++
	}
	return length
}
