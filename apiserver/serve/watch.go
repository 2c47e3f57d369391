package serve

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"hardway/apiserver/cache"
)

// watchHandler streams changes until the client leaves, the time is up or the server stops.
func watchHandler(c *call) (*reply, error) {
	query, seconds, err := c.listOptions()
	if err != nil {
		return nil, err
	}
	if c.media.encoding == inYAML {
		return nil, notAcceptable(true)
	}
	include, err := c.includeObject()
	if err != nil {
		return nil, err
	}
	timeout := time.Duration(float64(c.s.minWatch) * (1 + rand.Float64()))
	if seconds != nil && *seconds > 0 {
		timeout = time.Duration(*seconds) * time.Second
	}
	query.Timeout = timeout
	ctx, cancel := c.untilEnding()
	defer cancel()
	w, err := c.reg.Watch(ctx, query)
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	s := &stream{call: c, headers: true, include: include, prefix: c.kindPrefix(), metrics: c.s.metrics.of(c.endpoint)}
	if isWebSocket(c.r) {
		return nil, s.webSocket(ctx, w.Next)
	}
	mediaType := mediaJSON
	if c.media.encoding == inProtobuf {
		mediaType = mediaProtobuf + ";stream=watch"
	}
	c.w.Header()["Content-Type"] = []string{mediaType}
	addWarnings(c.w, c.r)
	c.w.WriteHeader(http.StatusOK)
	flusher := http.NewResponseController(c.w)
	g := newGuard(c.w)
	defer g.close()
	send := func(frames []byte) error {
		return g.write(func() error { _, err := c.w.Write(frames); return err })
	}
	s.run(ctx, w.Next, send, func() error { return g.write(flusher.Flush) })
	return nil, nil
}

// next waits for the events of a watch, as registry.Watch.Next does.
type next func(context.Context) ([]cache.Event, error)

// maxPending is how much of one batch of events is collected before it is written, in bytes.
const maxPending = 64 << 10

// stream writes events as frames.
type stream struct {
	*call
	headers bool // the next table carries its column definitions
	include metav1.IncludeObjectPolicy
	prefix  []byte
	buf     []byte
	metrics watched
}

// run sends events until there are no more. All events that wait are written together and flushed once.
func (s *stream) run(ctx context.Context, next next, send func([]byte) error, flush func() error) {
	if flush() != nil {
		return
	}
	for {
		events, err := next(ctx)
		for i := range events {
			before := len(s.buf)
			if failed := s.append(&events[i]); failed != nil {
				s.appendError(failed)
				err = failed
				break
			}
			s.metrics.sent(len(s.buf) - before)
			if len(s.buf) >= maxPending && s.write(send) != nil {
				return
			}
		}
		if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil && len(events) == 0 {
			s.appendError(err)
		}
		if s.write(send) != nil || flush() != nil || err != nil {
			return
		}
	}
}

func (s *stream) write(send func([]byte) error) error {
	if len(s.buf) == 0 {
		return nil
	}
	err := send(s.buf)
	s.buf = s.buf[:0]
	if cap(s.buf) > 4*maxPending {
		s.buf = nil
	}
	return err
}

// append adds one event's frame to the buffer.
func (s *stream) append(ev *cache.Event) error {
	if s.media.encoding == inProtobuf {
		return s.appendProto(ev)
	}
	text, err := s.object(ev)
	if err != nil {
		return err
	}
	s.appendJSON(string(ev.Type), text)
	return nil
}

func (s *stream) appendJSON(event string, text []byte) {
	s.buf = append(s.buf, `{"type":"`...)
	s.buf = append(s.buf, event...)
	s.buf = append(s.buf, `","object":`...)
	s.buf = append(s.buf, text...)
	s.buf = append(s.buf, "}\n"...)
}

// object is an event's object as JSON, or as a protobuf message without its envelope.
func (s *stream) object(ev *cache.Event) ([]byte, error) {
	x := s.entity(ev)
	if s.media.shape == asTable {
		headers := s.headers
		s.headers = false
		return s.tableOf(s.media, x, s.include, headers)
	}
	m := s.media
	if m.shape == asPartialList {
		m.shape = asPartial
	}
	m.pretty = false
	return s.encode(m, x)
}

// entity is what an event shows: the changed object, or for a bookmark an empty one that carries the revision.
func (s *stream) entity(ev *cache.Event) entity {
	if ev.Type != watch.Bookmark {
		return fromItem(ev.Item)
	}
	obj := s.kind.New()
	obj.GetObjectKind().SetGroupVersionKind(s.kind.GVK())
	obj.SetResourceVersion(strconv.FormatInt(ev.Rev, 10))
	if ev.InitialEnd {
		obj.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	return entity{obj: obj}
}

// appendProto adds a length-delimited WatchEvent, whose object is a RawExtension with an enveloped message.
func (s *stream) appendProto(ev *cache.Event) error {
	gvk := s.gvk
	if s.media.shape != asObject {
		gvk = schema.GroupVersionKind{Group: metav1.GroupName, Version: s.media.version, Kind: "PartialObjectMetadata"}
	}
	x := s.entity(ev)
	if x.item != nil && s.version == nil && s.media.shape == asObject {
		return s.appendProtoFrame(string(ev.Type), gvk, x.item.ProtoSize(), x.item.AppendProto)
	}
	message, err := s.object(ev)
	if err != nil {
		return err
	}
	return s.appendProtoFrame(string(ev.Type), gvk, len(message), func(dst []byte) ([]byte, error) { return append(dst, message...), nil })
}

// appendProtoFrame writes the four nested lengths around a message of a known size.
func (s *stream) appendProtoFrame(event string, gvk schema.GroupVersionKind, size int, message func([]byte) ([]byte, error)) error {
	apiVersion := gvk.GroupVersion().String()
	meta := 2 + uvarintLen(len(apiVersion)) + len(apiVersion) + uvarintLen(len(gvk.Kind)) + len(gvk.Kind)
	enveloped := len(protoMagic) + 1 + uvarintLen(meta) + meta + 1 + uvarintLen(size) + size + len(envelopeTail)
	raw := 1 + uvarintLen(enveloped) + enveloped
	frame := 1 + uvarintLen(len(event)) + len(event) + 1 + uvarintLen(raw) + raw

	s.buf = binary.BigEndian.AppendUint32(s.buf, uint32(frame))
	s.buf = appendBytesField(s.buf, 0x0a, event)
	s.buf = binary.AppendUvarint(append(s.buf, 0x12), uint64(raw))
	s.buf = binary.AppendUvarint(append(s.buf, 0x0a), uint64(enveloped))
	s.buf = envelopeHead(s.buf, gvk, size)
	var err error
	if s.buf, err = message(s.buf); err != nil {
		return err
	}
	s.buf = append(s.buf, envelopeTail...)
	return nil
}

// appendError adds the ERROR event that tells the client why the watch ends.
func (s *stream) appendError(err error) {
	status := StatusOf(err)
	if s.media.encoding == inProtobuf {
		if message, err := status.Marshal(); err == nil {
			_ = s.appendProtoFrame(string(watch.Error), status.GroupVersionKind(), len(message), func(dst []byte) ([]byte, error) { return append(dst, message...), nil })
		}
		return
	}
	if text, err := json.Marshal(status); err == nil {
		s.appendJSON(string(watch.Error), text)
	}
}
