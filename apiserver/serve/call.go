package serve

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"hardway/apiserver/request"
	"hardway/apiserver/resource"
)

// MaxBody bounds the body of a request, in bytes. Upstream's figure: twice what etcd takes.
const MaxBody = 3 << 20

// call is one request for a resource.
type call struct {
	*endpoint
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	info  *request.Info
	query url.Values
	media media
	// namespace is the object's: empty outside namespaces, even in the URL of a Namespace itself.
	namespace string
	sub       *resource.Subresource // nil: the object itself or its status
}

// reply is what a handler answers: an object of the endpoint, or anything else with apiVersion and kind set.
type reply struct {
	code   int
	entity entity
	other  runtime.Object
}

// handler serves one verb. A nil reply without an error means that it has answered itself.
type handler func(c *call) (*reply, error)

// verbs are the handlers of objects, by the request's verb.
var verbs = map[string]handler{
	"get": get, "list": list, "watch": watchHandler, "create": create, "update": update, "patch": patch,
	"delete": remove, "deletecollection": removeCollection,
}

// resource serves every request for a resource: it finds the endpoint and the verb, and writes what comes back.
func (s *Server) resource(w http.ResponseWriter, r *http.Request) {
	info := request.From(r.Context())
	e := s.endpoint(gvr(info))
	if e == nil || info.Verb == "proxy" {
		notFound(w, r)
		return
	}
	c := &call{endpoint: e, s: s, w: w, r: r, info: info, namespace: info.Namespace}
	if e.kind.Scope == resource.Cluster {
		c.namespace = ""
		// A Namespace's own path carries its name twice; nothing else outside namespaces is reached through one.
		if info.Namespace != "" && (e.kind.Plural != "namespaces" || info.Name != info.Namespace) {
			notFound(w, r)
			return
		}
	}
	rep, err := c.serve()
	if err == nil && rep != nil {
		err = c.send(rep)
	}
	if err != nil {
		s.fail(w, r, err)
	}
}

// serve finds the handler and calls it.
func (c *call) serve() (*reply, error) {
	if c.r.URL.RawQuery != "" {
		c.query = c.r.URL.Query()
	}
	if c.info.Subresource != "" {
		if connect := c.s.connect[c.kind.Plural+"/"+c.info.Subresource]; connect != nil && c.kind.Group == "" {
			ctx, cancel := c.untilEnding()
			defer cancel()
			return nil, connect(c.w, c.r.WithContext(ctx), c.info)
		}
	}
	// The answer to a review is no object that lies anywhere: it has no table and no metadata to show.
	var err error
	if c.media, err = negotiate(c.r, c.kind.Review == nil, c.kind.Form == nil); err != nil {
		return nil, err
	}
	if v := c.version; v != nil && v.Deprecated != "" {
		request.Warn(c.r.Context(), v.Deprecated)
	}
	if c.kind.Deprecated != "" {
		request.Warn(c.r.Context(), c.kind.Deprecated)
	}
	if f := c.kind.Form; f != nil && f.Deprecated != "" {
		request.Warn(c.r.Context(), f.Deprecated)
	}
	if c.info.Subresource != "" {
		return c.subresource()
	}
	h := verbs[c.info.Verb]
	if h == nil || !c.can(c.info.Verb) || len(c.info.Parts) > 2 {
		return nil, c.notAllowed()
	}
	if c.kind.Scope == resource.Namespaced && c.namespace == "" && c.needsNamespace() {
		return nil, c.notAllowed()
	}
	return h(c)
}

// untilEnding is the request's context, ended by the server's stop as well.
func (c *call) untilEnding() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(c.r.Context())
	stop := context.AfterFunc(c.s.ending, cancel)
	return ctx, func() { stop(); cancel() }
}

// needsNamespace says that the verb makes no sense across namespaces. A list that selects one name carries that name,
// and stays a list.
func (c *call) needsNamespace() bool {
	switch c.info.Verb {
	case "list", "watch":
		return c.info.LegacyWatch && c.info.Name != ""
	}
	return true
}

func (c *call) notAllowed() error {
	return apierrors.NewMethodNotSupported(c.kind.GroupResource(), c.info.Verb)
}

// send writes a reply.
func (c *call) send(rep *reply) error {
	m := c.media
	if rep.other != nil {
		text, err := encodeOther(media{encoding: m.encoding, pretty: m.pretty}, rep.other)
		if err != nil {
			return err
		}
		write(c.w, c.r, m.encoding.String(), rep.code, text)
		return nil
	}
	if m.shape == asPartialList {
		return &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
			Message: "you requested PartialObjectMetadataList, but the requested object is not a list",
		}}
	}
	include, err := c.includeObject()
	if err != nil {
		return err
	}
	text, err := c.whole(m, rep.entity, include)
	if err != nil {
		return err
	}
	write(c.w, c.r, m.encoding.String(), rep.code, text)
	return nil
}

// includeObject reads which part of the object goes with each row of a table.
func (c *call) includeObject() (metav1.IncludeObjectPolicy, error) {
	switch p := metav1.IncludeObjectPolicy(c.query.Get("includeObject")); p {
	case "", metav1.IncludeMetadata, metav1.IncludeObject, metav1.IncludeNone:
		return p, nil
	default:
		return "", apierrors.NewBadRequest(fmt.Sprintf(
			"Unable to convert to Table as requested: includeObject: Invalid value: %q: must be 'Metadata', 'Object', 'None', or empty", p))
	}
}

// readBody reads the body up to MaxBody.
func (c *call) readBody() ([]byte, error) {
	if c.r.ContentLength > MaxBody {
		return nil, tooLarge()
	}
	if deadline, ok := c.r.Context().Deadline(); ok {
		// A client that sends its body drop by drop is cut off. Not every connection has deadlines.
		_ = http.NewResponseController(c.w).SetReadDeadline(deadline)
	}
	// What the client claims to send is believed only up to a point: memory follows what arrives.
	data := make([]byte, 0, min(max(512, c.r.ContentLength+1), 64<<10))
	body := io.LimitReader(c.r.Body, MaxBody+1)
	for {
		if len(data) == cap(data) {
			data = slices.Grow(data, len(data))
		}
		n, err := body.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if len(data) > MaxBody {
			return nil, tooLarge()
		}
		if err == io.EOF { //nolint:errorlint // as io.Reader promises
			break
		}
		if err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("read the request's body: %v", err))
		}
	}
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{})
	return data, nil
}

func tooLarge() error {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", MaxBody))
}

// checkNamespace makes sure that an object is meant for the namespace of the URL, and puts it there.
func (c *call) checkNamespace(obj metav1.Object) error {
	switch obj.GetNamespace() {
	case c.namespace:
		return nil
	case "":
		obj.SetNamespace(c.namespace)
		return nil
	}
	if c.kind.Scope == resource.Cluster {
		// A namespace on an object outside namespaces is dropped.
		obj.SetNamespace("")
		return nil
	}
	return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
}

func (c *call) checkName(obj metav1.Object) error {
	if obj.GetName() == "" {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", c.info.Name))
	}
	if obj.GetName() != c.info.Name {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), c.info.Name))
	}
	return nil
}

// dropTwins removes owner references that are there twice, with a warning.
func (c *call) dropTwins(obj metav1.Object) {
	refs := obj.GetOwnerReferences()
	if len(refs) < 2 {
		return
	}
	var kept []metav1.OwnerReference
	var twins []string
	for _, ref := range refs {
		if slices.ContainsFunc(kept, func(k metav1.OwnerReference) bool { return sameOwner(k, ref) }) {
			twins = append(twins, string(ref.UID))
			continue
		}
		kept = append(kept, ref)
	}
	if len(twins) > 0 {
		obj.SetOwnerReferences(kept)
		request.Warn(c.r.Context(), fmt.Sprintf(".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, "+
			"and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: %v", strings.Join(twins, ", ")))
	}
}

func sameOwner(a, b metav1.OwnerReference) bool {
	truth := func(p *bool) bool { return p != nil && *p }
	return a.UID == b.UID && a.Kind == b.Kind && a.Name == b.Name && a.APIVersion == b.APIVersion &&
		truth(a.Controller) == truth(b.Controller) && truth(a.BlockOwnerDeletion) == truth(b.BlockOwnerDeletion)
}

// warn passes warnings on to the answer.
func (c *call) warn(texts []string) {
	for _, t := range texts {
		request.Warn(c.r.Context(), t)
	}
}

// wipe removes what only the server may say about a new object.
func wipe(obj metav1.Object) {
	obj.SetUID(types.UID(""))
	obj.SetCreationTimestamp(metav1.Time{})
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
}
