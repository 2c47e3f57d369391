package audit

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/apiserver/request"
)

// Event is one line of the audit log.
// https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/#audit-k8s-io-v1-Event
type Event struct {
	Kind                     string                     `json:"kind"`
	APIVersion               string                     `json:"apiVersion"`
	Level                    Level                      `json:"level"`
	AuditID                  string                     `json:"auditID"`
	Stage                    Stage                      `json:"stage"`
	RequestURI               string                     `json:"requestURI"`
	Verb                     string                     `json:"verb"`
	User                     authenticationv1.UserInfo  `json:"user"`
	ImpersonatedUser         *authenticationv1.UserInfo `json:"impersonatedUser,omitempty"`
	SourceIPs                []string                   `json:"sourceIPs,omitempty"`
	UserAgent                string                     `json:"userAgent,omitempty"`
	ObjectRef                *ObjectReference           `json:"objectRef,omitempty"`
	ResponseStatus           *metav1.Status             `json:"responseStatus,omitempty"`
	RequestObject            json.RawMessage            `json:"requestObject,omitempty"`
	ResponseObject           json.RawMessage            `json:"responseObject,omitempty"`
	RequestReceivedTimestamp metav1.MicroTime           `json:"requestReceivedTimestamp"`
	StageTimestamp           metav1.MicroTime           `json:"stageTimestamp"`
	Annotations              map[string]string          `json:"annotations,omitempty"`
}

// ObjectReference says what a request is about.
type ObjectReference struct {
	Resource        string    `json:"resource,omitempty"`
	Namespace       string    `json:"namespace,omitempty"`
	Name            string    `json:"name,omitempty"`
	UID             types.UID `json:"uid,omitempty"`
	APIGroup        string    `json:"apiGroup,omitempty"`
	APIVersion      string    `json:"apiVersion,omitempty"`
	ResourceVersion string    `json:"resourceVersion,omitempty"`
	Subresource     string    `json:"subresource,omitempty"`
}

// The annotations that say what authorization decided, and that an object was too large.
const (
	decisionAnnotation  = "authorization.k8s.io/decision"
	reasonAnnotation    = "authorization.k8s.io/reason"
	truncatedAnnotation = "audit.k8s.io/truncated"
)

// newEvent describes a request as far as it is known.
func newEvent(level Level, r *http.Request, state *request.State, received metav1.MicroTime) *Event {
	e := &Event{
		Kind: "Event", APIVersion: "audit.k8s.io/v1", Level: level, AuditID: state.ID, RequestURI: r.URL.RequestURI(),
		Verb: state.Info.Verb, UserAgent: state.UserAgent, SourceIPs: sources(r), RequestReceivedTimestamp: received,
	}
	switch {
	case state.User == nil:
	case state.Impersonator != nil:
		e.User = userOf(state.Impersonator)
		acted := userOf(state.User)
		e.ImpersonatedUser = &acted
	default:
		e.User = userOf(state.User)
	}
	if state.Info.IsResource {
		e.ObjectRef = &ObjectReference{
			Resource: state.Info.Resource, Subresource: state.Info.Subresource, Namespace: state.Info.Namespace, Name: state.Info.Name,
			APIGroup: state.Info.Group, APIVersion: state.Info.Version,
		}
	}
	return e
}

func userOf(u *request.UserInfo) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for key, values := range u.Extra {
		if out.Extra == nil {
			out.Extra = map[string]authenticationv1.ExtraValue{}
		}
		out.Extra[key] = values
	}
	return out
}

// sources are the addresses that a request is said to come from, the nearest one last: only that one is certain.
func sources(r *http.Request) []string {
	var out []string
	add := func(text string) {
		if ip := net.ParseIP(strings.TrimSpace(text)); ip != nil && (len(out) == 0 || out[len(out)-1] != ip.String()) {
			out = append(out, ip.String())
		}
	}
	for _, header := range r.Header.Values("X-Forwarded-For") {
		for one := range strings.SplitSeq(header, ",") {
			add(one)
		}
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		add(host)
	}
	return out
}

// name completes the reference by what the object says.
func (o *ObjectReference) name(obj metav1.Object) {
	if o.Namespace == "" {
		o.Namespace = obj.GetNamespace()
	}
	if o.Name == "" {
		o.Name = obj.GetName()
	}
	if o.UID == "" {
		o.UID = obj.GetUID()
	}
	if o.ResourceVersion == "" {
		o.ResourceVersion = obj.GetResourceVersion()
	}
}

// withoutManagedFields drops metadata.managedFields from an object or the items of a list.
func withoutManagedFields(text json.RawMessage) json.RawMessage {
	var obj map[string]any
	if json.Unmarshal(text, &obj) != nil {
		return text
	}
	drop := func(obj map[string]any) {
		if meta, ok := obj["metadata"].(map[string]any); ok {
			delete(meta, "managedFields")
		}
	}
	drop(obj)
	if items, ok := obj["items"].([]any); ok {
		for _, it := range items {
			if obj, ok := it.(map[string]any); ok {
				drop(obj)
			}
		}
	}
	out, err := json.Marshal(obj)
	if err != nil {
		return text
	}
	return out
}
