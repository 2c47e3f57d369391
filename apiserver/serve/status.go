package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"hardway/apiserver/request"
)

// StatusOf turns an error into the Status a client sees. An error that is no StatusError is an internal one; a
// deadline that passed is a timeout.
func StatusOf(err error) *metav1.Status {
	var api apierrors.APIStatus
	var status metav1.Status
	switch {
	case errors.As(err, &api):
		status = api.Status()
	case errors.Is(err, context.DeadlineExceeded):
		status = apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0).Status()
	default:
		status = metav1.Status{Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError,
			Message: "Internal error occurred: " + err.Error()}
	}
	if status.Status == "" {
		status.Status = metav1.StatusFailure
	}
	if status.Code == 0 {
		status.Code = http.StatusInternalServerError
		if status.Status == metav1.StatusSuccess {
			status.Code = http.StatusOK
		}
	}
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	return &status
}

// Fail writes an error as a Status, in the encoding that the client accepts. It must be called before anything else
// was written.
func Fail(w http.ResponseWriter, r *http.Request, err error) {
	status := StatusOf(err)
	if state := request.StateOf(r.Context()); state != nil {
		state.Fail(status)
	}
	if d := status.Details; d != nil && d.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(d.RetryAfterSeconds)))
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	m, negotiated := negotiate(r, false, true)
	if negotiated != nil {
		// A client that asked for a table can read JSON.
		m = media{}
	}
	text, encodeErr := encodeOther(m, status)
	if encodeErr != nil {
		m, text = media{}, fmt.Appendf(nil, "%s: %s", status.Reason, status.Message)
	}
	write(w, r, m.encoding.String(), int(status.Code), text)
}

var newline = []byte("\n")

// write sends a complete answer with the warnings collected for it. An error of the connection has nobody to go to.
func write(w http.ResponseWriter, r *http.Request, mediaType string, code int, text []byte) {
	h := w.Header()
	h["Content-Type"] = []string{mediaType}
	addWarnings(w, r)
	b := newBody(w, r, code)
	if _, err := b.Write(text); err != nil {
		b.free() // the client has gone
		return
	}
	if strings.HasPrefix(mediaType, mediaJSON) && !bytes.HasSuffix(text, newline) {
		_, _ = b.Write(newline) // it only lies in a buffer
	}
	_ = b.Close() // an error here means that the client has gone
}

// addWarnings puts the request's warnings into the answer's headers.
func addWarnings(w http.ResponseWriter, r *http.Request) {
	s := request.StateOf(r.Context())
	if s == nil {
		return
	}
	for _, text := range s.TakeWarnings() {
		if header, err := utilnet.NewWarningHeader(299, "-", text); err == nil {
			w.Header().Add("Warning", header)
		}
	}
}
