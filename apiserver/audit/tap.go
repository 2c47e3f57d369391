package audit

import (
	"io"
	"net/http"
)

// most is how much of a body is kept; an object that is larger is left out.
const most = 4 << 20

// capture keeps what passes by.
type capture struct {
	data []byte
	over bool
}

func (c *capture) add(p []byte) {
	if c.over = c.over || len(c.data)+len(p) > most; c.over {
		c.data = nil
		return
	}
	c.data = append(c.data, p...)
}

// observe keeps what the client sends, and asks for an answer that can be read back, if the level wants that.
func (c *record) observe(r *http.Request) {
	if !c.state.Info.IsResource || c.connects() {
		return
	}
	if c.choice.level.atLeast(Request) && r.Body != nil && r.Body != http.NoBody {
		c.sent = &capture{}
		r.Body = &reader{r.Body, c.sent}
	}
	if c.choice.level.atLeast(RequestResponse) {
		r.Header.Del("Accept-Encoding")
	}
}

// connects: the bodies are streams and no objects.
func (c *record) connects() bool {
	switch c.state.Info.Subresource {
	case "exec", "attach", "portforward", "proxy", "log":
		return true
	}
	return c.state.Info.Verb == "proxy"
}

type reader struct {
	io.ReadCloser
	kept *capture
}

// Read keeps what is read.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.kept.add(p[:n])
	return n, err
}

// tap watches an answer. It keeps the optional interfaces of what it wraps through Unwrap.
type tap struct {
	http.ResponseWriter
	rec    *record
	status int
	body   *capture
}

// WriteHeader notes that the answer begins.
func (t *tap) WriteHeader(status int) {
	if t.status == 0 && status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		t.begin(status)
	}
	t.ResponseWriter.WriteHeader(status)
}

func (t *tap) begin(status int) {
	t.status = status
	if t.rec.state.Info.LongRunning() {
		t.rec.event(ResponseStarted, t.rec.status(status)) //nolint:errcheck // counted
	} else if t.rec.choice.level.atLeast(RequestResponse) && t.rec.state.Info.IsResource && !t.rec.connects() {
		t.body = &capture{}
	}
}

// Write keeps what is written, where the level wants that.
func (t *tap) Write(p []byte) (int, error) {
	if t.status == 0 {
		t.begin(http.StatusOK)
	}
	if t.body != nil {
		t.body.add(p)
	}
	return t.ResponseWriter.Write(p)
}

func (t *tap) code() int {
	if t.status == 0 {
		return http.StatusOK
	}
	return t.status
}

// Flush sends what is buffered.
func (t *tap) Flush() {
	if t.status == 0 {
		t.begin(http.StatusOK)
	}
	if f, ok := t.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap is for http.ResponseController.
func (t *tap) Unwrap() http.ResponseWriter { return t.ResponseWriter }
