package serve

import (
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/munnerz/goautoneg"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// encoding is how an object lies in a body.
type encoding int

const (
	inJSON encoding = iota
	inYAML
	inProtobuf
)

// Media types.
const (
	mediaJSON     = "application/json"
	mediaYAML     = "application/yaml"
	mediaProtobuf = "application/vnd.kubernetes.protobuf"
)

func (e encoding) String() string { return [...]string{mediaJSON, mediaYAML, mediaProtobuf}[e] }

// shape is what an answer shows of an object.
type shape int

const (
	asObject shape = iota
	asTable
	asPartial     // PartialObjectMetadata
	asPartialList // PartialObjectMetadataList
)

// media is the form of an answer that client and server agreed on.
type media struct {
	encoding encoding
	shape    shape
	version  string // of meta.k8s.io, for the shapes
	pretty   bool
}

// notAcceptable is the answer to an Accept header that leaves nothing.
func notAcceptable(streams bool) error {
	accepted := []string{mediaJSON, mediaYAML, mediaProtobuf}
	if streams {
		accepted = []string{mediaJSON + ";stream=watch", mediaProtobuf + ";stream=watch"}
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + strings.Join(accepted, ", "),
	}}
}

// unsupported is the answer to a body of an unknown type.
func unsupported(accepted ...string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: "the body of the request was in an unknown format - accepted media types include: " + strings.Join(accepted, ", "),
	}}
}

// negotiate reads the Accept header. Resources may be shown as tables and bare metadata, other answers may not. Without
// binary the whole object has no protobuf form, though its metadata have.
func negotiate(r *http.Request, shapes, binary bool) (media, error) {
	m := media{pretty: wantsPretty(r)}
	header := r.Header.Get("Accept")
	switch {
	case header == "", header == "*/*", header == mediaJSON:
		return m, nil
	case header == mediaProtobuf && binary:
		m.encoding = inProtobuf
		return m, nil
	}
	for _, clause := range goautoneg.ParseAccept(header) {
		got, ok := acceptClause(clause, shapes)
		if ok && (binary || got.encoding != inProtobuf || got.shape == asPartial || got.shape == asPartialList) {
			got.pretty = got.pretty || m.pretty
			return got, nil
		}
	}
	return m, notAcceptable(false)
}

func acceptClause(clause goautoneg.Accept, shapes bool) (media, bool) {
	var m media
	switch clause.Type + "/" + clause.SubType {
	case mediaJSON, "application/*", "*/*":
	case mediaYAML:
		m.encoding = inYAML
	case mediaProtobuf:
		m.encoding = inProtobuf
	default:
		return m, false
	}
	p := clause.Params
	if s := p["stream"]; s != "" && s != "watch" || s == "watch" && m.encoding == inYAML {
		return m, false
	}
	if p["sv"] != "" {
		return m, false
	}
	m.pretty = p["pretty"] == "1"
	kind, group, version := p["as"], p["g"], p["v"]
	if kind == "" && group == "" && version == "" {
		return m, true
	}
	if !shapes || group != metav1.GroupName || version != "v1" && version != "v1beta1" {
		return m, false
	}
	m.version = version
	switch kind {
	case "Table":
		m.shape = asTable
		return m, m.encoding != inProtobuf
	case "PartialObjectMetadata":
		m.shape = asPartial
		return m, true
	case "PartialObjectMetadataList":
		m.shape = asPartialList
		return m, true
	}
	return m, false
}

// wantsPretty says that a person reads the answer: ?pretty=true, or a browser or command line tool without ?pretty.
func wantsPretty(r *http.Request) bool {
	if strings.Contains(r.URL.RawQuery, "pretty") {
		if text := r.URL.Query().Get("pretty"); text != "" {
			pretty, err := strconv.ParseBool(text)
			return err == nil && pretty
		}
	}
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// bodyEncoding reads the Content-Type of a body; none means JSON.
func bodyEncoding(r *http.Request) (encoding, error) {
	header := r.Header.Get("Content-Type")
	switch header {
	case "", mediaJSON:
		return inJSON, nil
	case mediaProtobuf:
		return inProtobuf, nil
	}
	if name, _, err := mime.ParseMediaType(header); err == nil {
		switch name {
		case mediaJSON:
			return inJSON, nil
		case mediaYAML:
			return inYAML, nil
		case mediaProtobuf:
			return inProtobuf, nil
		}
	}
	return inJSON, unsupported(mediaJSON, mediaYAML, mediaProtobuf)
}
