package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/json"

	"hardway/apiserver/resource"
)

// Transformer changes values on their way to and from etcd, as encryption at rest does. The key is authenticated with
// the value, so that values cannot be swapped between keys.
type Transformer interface {
	// Seal turns plain bytes into what is stored.
	Seal(ctx context.Context, key string, plain []byte) ([]byte, error)
	// Open turns stored bytes into plain ones. stale says that a write should store them anew, because they were
	// sealed in another way than Seal would now.
	Open(ctx context.Context, key string, stored []byte) (plain []byte, stale bool, err error)
}

// Reloader is a Transformer whose keys may change while it is used.
type Reloader interface {
	// Reloaded says that values may be stale by now that were not when they were opened.
	Reloaded() bool
}

// Identity stores plain bytes.
type Identity struct{}

// Seal returns plain.
func (Identity) Seal(_ context.Context, _ string, plain []byte) ([]byte, error) { return plain, nil }

// Open returns stored, but refuses what another transformer has sealed.
func (Identity) Open(_ context.Context, key string, stored []byte) ([]byte, bool, error) {
	if bytes.HasPrefix(stored, []byte("k8s:enc:")) {
		return nil, false, fmt.Errorf("%s is encrypted and no encryption key is configured for it", key)
	}
	return stored, false, nil
}

// message is what every generated API type can do.
type message interface {
	Size() int
	MarshalToSizedBuffer(data []byte) (int, error)
	Unmarshal(data []byte) error
}

// magic begins a stored protobuf envelope.
var magic = []byte("k8s\x00")

// The fields of the envelope, runtime.Unknown.
const (
	fieldTypeMeta = 1
	fieldRaw      = 2
	tagRaw        = fieldRaw<<3 | 2
)

// envelopeEnd is the envelope's empty contentEncoding and contentType, which upstream writes out.
var envelopeEnd = []byte{3<<3 | 2, 0, 4<<3 | 2, 0}

// Codec turns objects of one kind into stored bytes and back.
type Codec struct {
	Transformer
	kind       *resource.Kind
	apiVersion string
	head       []byte // magic and type, which begin every value
}

// NewCodec makes the codec of a kind. A nil Transformer is Identity.
func NewCodec(kind *resource.Kind, t Transformer) *Codec {
	if t == nil {
		t = Identity{}
	}
	c := &Codec{Transformer: t, kind: kind}
	c.apiVersion, _ = kind.GVK().ToAPIVersionAndKind()
	typeMeta := protowire.AppendTag(nil, 1, protowire.BytesType)
	typeMeta = protowire.AppendString(typeMeta, c.apiVersion)
	typeMeta = protowire.AppendTag(typeMeta, 2, protowire.BytesType)
	typeMeta = protowire.AppendString(typeMeta, kind.Names.Kind)
	c.head = append(bytes.Clone(magic), fieldTypeMeta<<3|2)
	c.head = protowire.AppendBytes(c.head, typeMeta)
	return c
}

// Encode returns the plain bytes to store: resourceVersion is left out, because the revision is only known afterwards.
// The object is changed for a moment and must be the caller's own.
func (c *Codec) Encode(obj resource.Object) ([]byte, error) {
	m, ok := obj.(message)
	if !ok && c.kind.Form == nil {
		return nil, fmt.Errorf("encode %s %s: the type has no protobuf form", c.kind.Names.Kind, obj.GetName())
	}
	version, link := obj.GetResourceVersion(), obj.GetSelfLink()
	obj.SetResourceVersion("")
	obj.SetSelfLink("")
	defer func() { obj.SetResourceVersion(version); obj.SetSelfLink(link) }()

	if c.kind.Form != nil {
		out, err := c.kind.Form.Marshal(obj)
		if err != nil {
			return nil, fmt.Errorf("encode %s %s: %w", c.kind.Names.Kind, obj.GetName(), err)
		}
		return out, nil
	}
	size := m.Size()
	out := make([]byte, 0, len(c.head)+1+protowire.SizeBytes(size)+len(envelopeEnd))
	out = append(out, c.head...)
	out = append(out, tagRaw)
	out = protowire.AppendVarint(out, uint64(size))
	body := out[len(out) : len(out)+size]
	if n, err := m.MarshalToSizedBuffer(body); err != nil || n != size {
		return nil, fmt.Errorf("encode %s %s: wrote %d of %d bytes: %w", c.kind.Names.Kind, obj.GetName(), n, size, err)
	}
	return append(out[:len(out)+size], envelopeEnd...), nil
}

// Decoded is an object as it was stored.
type Decoded struct {
	// Object has its defaults, type and resourceVersion.
	Object resource.Object
	// Body is the object's protobuf encoding without resourceVersion, a part of the plain bytes; nil if the stored
	// form does not say exactly what Object says.
	Body []byte
}

// Decode reads plain bytes that were written at a revision: the protobuf envelope or JSON, in the storage version or
// another one that the kind serves.
func (c *Codec) Decode(ctx context.Context, plain []byte, rev int64) (Decoded, error) {
	out, err := c.decode(ctx, plain)
	if err != nil {
		return Decoded{}, fmt.Errorf("decode stored %s: %w", c.kind.Names.Kind, err)
	}
	c.kind.Default(out.Object)
	if m, ok := out.Object.(message); ok && out.Body != nil && m.Size() != len(out.Body) {
		out.Body = nil // defaults were added, or unknown fields dropped
	}
	out.Object.GetObjectKind().SetGroupVersionKind(c.kind.GVK())
	out.Object.SetResourceVersion(strconv.FormatInt(rev, 10))
	return out, nil
}

func (c *Codec) decode(ctx context.Context, plain []byte) (Decoded, error) {
	if c.kind.Form != nil {
		obj, err := c.kind.Form.Unmarshal(ctx, plain)
		return Decoded{Object: obj}, err
	}
	if !bytes.HasPrefix(plain, magic) {
		return c.decodeJSON(plain)
	}
	if body, ok := bytes.CutPrefix(plain, c.head); ok {
		body, err := rawField(body)
		if err != nil {
			return Decoded{}, err
		}
		obj := c.kind.New()
		return Decoded{obj, body}, obj.(message).Unmarshal(body)
	}
	var unknown runtime.Unknown
	if err := unknown.Unmarshal(plain[len(magic):]); err != nil {
		return Decoded{}, fmt.Errorf("envelope: %w", err)
	}
	obj, err := c.other(unknown.TypeMeta, func(into any) error {
		m, ok := into.(message)
		if !ok {
			return fmt.Errorf("%T has no protobuf form", into)
		}
		return m.Unmarshal(unknown.Raw)
	})
	return Decoded{Object: obj}, err
}

func (c *Codec) decodeJSON(plain []byte) (Decoded, error) {
	var meta metav1.TypeMeta
	if err := json.UnmarshalCaseSensitivePreserveInts(plain, &meta); err != nil {
		return Decoded{}, fmt.Errorf("neither a protobuf envelope nor JSON: %w", err)
	}
	obj, err := c.other(runtime.TypeMeta{APIVersion: meta.APIVersion, Kind: meta.Kind}, func(into any) error {
		return json.UnmarshalCaseSensitivePreserveInts(plain, into)
	})
	return Decoded{Object: obj}, err
}

// other reads an object of any version that the kind knows.
func (c *Codec) other(is runtime.TypeMeta, read func(into any) error) (resource.Object, error) {
	gvk := schema.FromAPIVersionAndKind(is.APIVersion, is.Kind)
	if gvk == c.kind.GVK() {
		obj := c.kind.New()
		return obj, read(obj)
	}
	for _, v := range slices.Concat(c.kind.Versions, c.kind.Formerly) {
		if gvk != (schema.GroupVersionKind{Group: v.Names.Group, Version: v.Names.Version, Kind: v.Names.Kind}) {
			continue
		}
		in := v.New()
		if err := read(in); err != nil {
			return nil, err
		}
		return v.ToStorage(in)
	}
	return nil, fmt.Errorf("%s is not a version of %s that this server knows", gvk, c.kind.Names.Kind)
}

var errEnvelope = errors.New("damaged protobuf envelope")

// rawField finds the envelope's raw field in what follows the type.
func rawField(b []byte) ([]byte, error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, errEnvelope
		}
		b = b[n:]
		if num == fieldRaw && typ == protowire.BytesType {
			if raw, n := protowire.ConsumeBytes(b); n >= 0 {
				return raw, nil
			}
			return nil, errEnvelope
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return nil, errEnvelope
		}
		b = b[n:]
	}
	return nil, errEnvelope
}
