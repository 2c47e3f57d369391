package proxy

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/request"
)

// logChunk is how much of a log is passed on at a time.
const logChunk = 32 << 10

// socketWrite bounds how long a WebSocket client may take for one message.
const socketWrite = 30 * time.Second

// The subprotocols in which a log comes over a WebSocket: messages of bytes, or of base64 text.
const (
	binaryProtocol = "binary" + protocolSuffix
	base64Protocol = "base64.binary" + protocolSuffix
)

// Log streams a container's log as plain text or, when asked, as messages of a WebSocket. A pod without a node has no
// log: 204.
func (p *Proxy) Log(w http.ResponseWriter, r *http.Request, info *request.Info) error {
	query := r.URL.Query()
	out, err := logQuery(query, info.Name)
	if err != nil {
		return err
	}
	pod, err := p.objects.Pod(r.Context(), info.Namespace, info.Name)
	if err != nil {
		return err
	}
	container, err := pickContainer(pod, query.Get("container"))
	if err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	from, err := p.toNode(r.Context(), pod, "containerLogs", container)
	if err != nil {
		return err
	}
	from.RawQuery = out.Encode()
	via := p.nodes
	if request.Flag(query, "insecureSkipTLSVerifyBackend") {
		via = p.unproven
	}
	body, err := openLog(r, from, via, info.Name)
	if err != nil {
		return err
	}
	defer body.Close()
	if websocket.IsWebSocketUpgrade(r) {
		return p.logMessages(w, r, body)
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	flusher := http.NewResponseController(w)
	_ = flusher.Flush() // the client should know at once that the log is open
	if err := copyLog(w, body, flusher, request.Flag(query, "follow")); err != nil {
		p.log.Debug("log ended", zap.String("namespace", info.Namespace), zap.String("name", info.Name), zap.Error(err))
	}
	return nil
}

// logQuery checks the options of a log and translates them into the node agent's.
func logQuery(query url.Values, pod string) (url.Values, error) {
	out, errs := url.Values{}, field.ErrorList{}
	for _, name := range []string{"follow", "previous", "timestamps"} {
		if request.Flag(query, name) {
			out.Set(name, "true")
		}
	}
	for name, least := range map[string]int64{"tailLines": 0, "sinceSeconds": 1, "limitBytes": 1} {
		text := query.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("unable to decode query: %s: %v", name, err))
		}
		if n < least {
			msg := map[int64]string{0: "must be greater than or equal to 0", 1: "must be greater than 0"}[least]
			errs = append(errs, field.Invalid(field.NewPath(name), n, msg))
		}
		out.Set(name, text)
	}
	if text := query.Get("sinceTime"); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("unable to decode query: sinceTime: %v", err))
		}
		if out.Has("sinceSeconds") {
			errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
		}
		out.Set("sinceTime", at.Format(time.RFC3339))
	}
	if stream := query.Get("stream"); stream != "" {
		streams := []string{"All", "Stderr", "Stdout"}
		if !slices.Contains(streams, stream) {
			errs = append(errs, field.NotSupported(field.NewPath("stream"), stream, streams))
		} else if stream != "All" && out.Has("tailLines") {
			errs = append(errs, field.Forbidden(field.NewPath(""), "`tailLines` and specific `stream` are mutually exclusive for now"))
		}
		out.Set("stream", stream)
	}
	if len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "PodLogOptions"}, pod, errs)
	}
	return out, nil
}

// openLog asks the node agent for a log. Its refusals become a Status with its own words; a redirect is one of them.
func openLog(r *http.Request, from *url.URL, via *backend, pod string) (io.ReadCloser, error) {
	out, err := http.NewRequestWithContext(r.Context(), http.MethodGet, from.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("request log of pod %s: %w", pod, err)
	}
	response, err := via.transport.RoundTrip(out)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("Get %q: %w", from.Redacted(), err))
	}
	if response.StatusCode == http.StatusOK || response.StatusCode == http.StatusPartialContent {
		return response.Body, nil
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxRefusal))
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	switch code := response.StatusCode; {
	case code == http.StatusInternalServerError:
		return nil, apierrors.NewInternalError(errors.New(string(text)))
	case code == http.StatusBadRequest:
		return nil, apierrors.NewBadRequest(string(text))
	case code < http.StatusBadRequest:
		return nil, apierrors.NewInternalError(fmt.Errorf("node answered %s to a request for a log", response.Status))
	default:
		return nil, apierrors.NewGenericServerResponse(code, "", schema.GroupResource{Resource: "pods/log"}, pod, string(text), 0, false)
	}
}

// copyLog passes a log on; one that is followed is flushed after every read.
func copyLog(w io.Writer, from io.Reader, flusher *http.ResponseController, follow bool) error {
	if !follow {
		_, err := io.Copy(w, from)
		return err
	}
	chunk := make([]byte, logChunk)
	for {
		n, err := from.Read(chunk)
		if n > 0 {
			if _, err := w.Write(chunk[:n]); err != nil {
				return err
			}
			if err := flusher.Flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// logMessages sends a log as messages, after an empty one that says that the log is open. What the client sends is
// dropped; when it goes away, so does the connection to the node.
func (p *Proxy) logMessages(w http.ResponseWriter, r *http.Request, from io.ReadCloser) error {
	offers := websocket.Subprotocols(r)
	known := func(name string) bool { return name == binaryProtocol || name == base64Protocol }
	if len(offers) > 0 && !slices.ContainsFunc(offers, known) {
		return apierrors.NewBadRequest(fmt.Sprintf("requested protocol(s) are not supported: %v; supports [%s %s]", offers, binaryProtocol, base64Protocol))
	}
	up := websocket.Upgrader{Subprotocols: []string{binaryProtocol, base64Protocol}, CheckOrigin: sameForAll}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return nil // Upgrade has answered
	}
	defer ws.Close()
	go func() {
		defer from.Close()
		for {
			if _, _, err := ws.NextReader(); err != nil {
				return
			}
		}
	}()
	send := func(data []byte) error {
		if err := ws.SetWriteDeadline(time.Now().Add(socketWrite)); err != nil {
			return err
		}
		if ws.Subprotocol() == base64Protocol {
			return ws.WriteMessage(websocket.TextMessage, base64.StdEncoding.AppendEncode(nil, data))
		}
		return ws.WriteMessage(websocket.BinaryMessage, data)
	}
	if err := send(nil); err != nil {
		return nil
	}
	chunk := make([]byte, logChunk)
	for {
		n, err := from.Read(chunk)
		if n > 0 {
			if err := send(chunk[:n]); err != nil {
				return nil
			}
		}
		if err != nil {
			break
		}
	}
	end := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = ws.WriteControl(websocket.CloseMessage, end, time.Now().Add(time.Second)) // the client may have closed first
	return nil
}
