package filter

import (
	"fmt"
	"net/http"
	"runtime/debug"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// recover turns a panic into a 500, or into an aborted connection when the answer has begun: the client must not take
// half an answer for a whole one. http.ErrAbortHandler, by which handlers abort on purpose, passes through.
func (c *chain) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rw := newWriter(w)
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause == http.ErrAbortHandler { //nolint:errorlint // compared as net/http does
				panic(cause)
			}
			c.Metrics.panicked()
			c.Log.Error("handler panicked", zap.String("method", r.Method), zap.String("path", r.URL.Path),
				zap.Any("panic", cause), zap.ByteString("stack", debug.Stack()))
			if rw.status != 0 {
				panic(http.ErrAbortHandler)
			}
			c.Fail(rw, r, apierrors.NewInternalError(fmt.Errorf("the server failed on this request; its log says more")))
		}()
		next.ServeHTTP(rw, r)
	})
}

// writer counts what is written. It keeps the optional interfaces of what it wraps: Flush here, hijacking and
// deadlines through http.ResponseController and Unwrap.
type writer struct {
	http.ResponseWriter
	status int // 0: nothing sent yet
	bytes  int64
}

func newWriter(w http.ResponseWriter) *writer { return &writer{ResponseWriter: w} }

func (w *writer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Flush sends what is buffered.
func (w *writer) Flush() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
