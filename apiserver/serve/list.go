package serve

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"hardway/apiserver/table"
)

// list answers with the objects that a selector finds.
func list(c *call) (*reply, error) {
	query, _, err := c.listOptions()
	if err != nil {
		return nil, err
	}
	if c.kind.Observe != nil {
		return nil, c.viewAll(query)
	}
	found, err := c.reg.List(c.r.Context(), query)
	if err != nil {
		return nil, err
	}
	meta := metav1.ListMeta{
		ResourceVersion: strconv.FormatInt(found.Rev, 10), Continue: found.Continue, RemainingItemCount: found.Remaining,
	}
	return nil, c.sendList(meta, len(found.Items), func(i int) entity { return fromItem(found.Items[i]) })
}

// sendList writes a list item by item: at no time does the whole of it lie in memory, but for YAML.
func (c *call) sendList(meta metav1.ListMeta, n int, at func(int) entity) error {
	m := c.media
	if m.shape == asPartial {
		return &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
			Message: "you requested PartialObjectMetadata, but the requested object is a list",
		}}
	}
	include, err := c.includeObject()
	if err != nil {
		return err
	}
	l := &listing{call: c, meta: meta, n: n, at: at, include: include}
	c.w.Header()["Content-Type"] = []string{m.encoding.String()}
	switch {
	case m.encoding == inProtobuf:
		return l.stream(l.protobuf)
	case m.encoding == inYAML:
		return l.yaml()
	case m.pretty:
		return l.stream(l.pretty)
	}
	return l.stream(l.json)
}

// listing is a list on its way out.
type listing struct {
	*call
	meta    metav1.ListMeta
	n       int
	at      func(int) entity
	include metav1.IncludeObjectPolicy
}

// stream writes the list by a function. An error before anything was sent is the answer; later the connection is
// broken, for half a list must not look like a whole one.
func (l *listing) stream(write func(w *body) error) error {
	addWarnings(l.w, l.r)
	b := newBody(l.w, l.r, http.StatusOK)
	if err := write(b); err != nil {
		started := b.started
		b.free()
		if started {
			panic(http.ErrAbortHandler)
		}
		return err
	}
	_ = b.Close() // an error here means that the client has gone
	return nil
}

// gvk is the list's apiVersion and kind.
func (l *listing) gvk() schema.GroupVersionKind {
	if l.media.shape == asPartialList {
		return schema.GroupVersionKind{Group: metav1.GroupName, Version: l.media.version, Kind: "PartialObjectMetadataList"}
	}
	return l.endpoint.gvk.GroupVersion().WithKind(l.endpoint.list)
}

// head is the JSON up to the first item.
func (l *listing) head() ([]byte, error) {
	if l.media.shape == asTable {
		return table.Head(l.kind, l.media.version, l.meta, true)
	}
	meta, err := json.Marshal(l.meta)
	if err != nil {
		return nil, err
	}
	gvk := l.gvk()
	text := append([]byte(`{"kind":"`), gvk.Kind...)
	text = append(append(append(text, `","apiVersion":"`...), gvk.GroupVersion().String()...), `","metadata":`...)
	return append(append(text, meta...), `,"items":[`...), nil
}

// item is one item as JSON. Items of a list do not repeat apiVersion and kind, but bare metadata does.
func (l *listing) item(x entity) (prefix string, text []byte, err error) {
	if l.media.shape == asTable {
		text, err = l.row(l.media, x, l.include)
		return "", text, err
	}
	text, err = l.encode(media{shape: l.media.shape, version: l.media.version}, x)
	if err != nil || l.media.shape == asPartialList {
		return "", text, err
	}
	known := l.kindPrefix()
	if bytes.HasPrefix(text, known) {
		return "{", text[len(known):], nil
	}
	return "", text, nil
}

// kindPrefix is how the JSON of every object of the endpoint begins.
func (e *endpoint) kindPrefix() []byte {
	e.prefixOnce.Do(func() {
		e.prefix = []byte(`{"kind":"` + e.gvk.Kind + `","apiVersion":"` + e.gvk.GroupVersion().String() + `",`)
	})
	return e.prefix
}

func (l *listing) json(w *body) error {
	head, err := l.head()
	if err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	for i := range l.n {
		prefix, text, err := l.item(l.at(i))
		if err != nil {
			return err
		}
		if i > 0 {
			prefix = "," + prefix
		}
		if prefix != "" {
			if _, err := w.Write([]byte(prefix)); err != nil {
				return err
			}
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	_, err = w.Write([]byte("]}\n"))
	return err
}

// pretty writes the same for people, indenting item by item.
func (l *listing) pretty(w *body) error {
	head, err := l.head()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	// An empty list closes the brackets, so that the head can be indented as a whole; then they come off again.
	if err := json.Indent(&out, append(bytes.Clone(head), "]}"...), "", "  "); err != nil {
		return err
	}
	text := bytes.TrimSuffix(out.Bytes(), []byte("[]\n}"))
	if _, err := w.Write(append(text, '[')); err != nil {
		return err
	}
	for i := range l.n {
		prefix, text, err := l.item(l.at(i))
		if err != nil {
			return err
		}
		out.Reset()
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString("\n    ")
		if err := json.Indent(&out, append([]byte(prefix), text...), "    ", "  "); err != nil {
			return err
		}
		if _, err := w.Write(out.Bytes()); err != nil {
			return err
		}
	}
	end := "]\n}\n"
	if l.n > 0 {
		end = "\n  ]\n}\n"
	}
	_, err = w.Write([]byte(end))
	return err
}

// yaml builds the whole list: YAML is for people, and for small lists.
func (l *listing) yaml() error {
	var text bytes.Buffer
	head, err := l.head()
	if err != nil {
		return err
	}
	text.Write(head)
	for i := range l.n {
		prefix, item, err := l.item(l.at(i))
		if err != nil {
			return err
		}
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteString(prefix)
		text.Write(item)
	}
	text.WriteString("]}")
	out, err := yaml.JSONToYAML(text.Bytes())
	if err != nil {
		return err
	}
	write(l.w, l.r, mediaYAML, http.StatusOK, out)
	return nil
}

// protobuf assembles the list message by hand: field 1 is the metadata, every item a field 2. The envelope comes first
// and says how long all of it is, so sizes are asked before anything is encoded.
func (l *listing) protobuf(w *body) error {
	meta, err := l.meta.Marshal()
	if err != nil {
		return err
	}
	total := 1 + uvarintLen(len(meta)) + len(meta)
	sizes := make([]int32, l.n)
	for i := range l.n {
		size, err := l.protoSize(l.at(i))
		if err != nil {
			return err
		}
		sizes[i] = int32(size)
		total += 1 + uvarintLen(size) + size
	}
	buf := envelopeHead(nil, l.gvk(), total)
	buf = appendBytesField(buf, 0x0a, meta)
	for i := range l.n {
		buf = binary.AppendUvarint(append(buf, 0x12), uint64(sizes[i]))
		if buf, err = l.appendProto(buf, l.at(i)); err != nil {
			return err
		}
		if len(buf) >= chunk/2 {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	_, err = w.Write(append(buf, envelopeTail...))
	return err
}

// direct says that an item's stored bytes can be copied as they are.
func (l *listing) direct(x entity) bool {
	return x.item != nil && l.version == nil && l.media.shape == asObject
}

func (l *listing) protoSize(x entity) (int, error) {
	if l.direct(x) {
		return x.item.ProtoSize(), nil
	}
	b, err := l.encode(l.media, x)
	return len(b), err
}

func (l *listing) appendProto(dst []byte, x entity) ([]byte, error) {
	if l.direct(x) {
		return x.item.AppendProto(dst)
	}
	b, err := l.encode(l.media, x)
	return append(dst, b...), err
}
