package serve

import (
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip" // level 1 takes 0.6 of the time of the standard library's
)

const (
	// gzipFrom is the size from which an answer is compressed, for clients that take it: below, the work costs
	// more than it saves. Upstream's figure.
	gzipFrom = 128 << 10
	// chunk is how much is collected before it is written.
	chunk = 64 << 10
)

// body is the body of an answer: it collects what is written, sends small answers whole with their length, and
// compresses large ones if the client takes that. Its memory is bounded by gzipFrom.
type body struct {
	w       http.ResponseWriter
	code    int
	gzip    bool // the client takes it
	started bool
	buf     []byte
	z       *gzip.Writer
	guard   *guard // once started
}

var (
	bodies  = sync.Pool{New: func() any { return &body{buf: make([]byte, 0, 4<<10)} }}
	gzipper = sync.Pool{New: func() any {
		z, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		if err != nil {
			panic(err) // the level is a constant
		}
		return z
	}}
)

// newBody begins an answer. Content-Type is set by the caller before the first write.
func newBody(w http.ResponseWriter, r *http.Request, code int) *body {
	b := bodies.Get().(*body)
	*b = body{w: w, code: code, gzip: takesGzip(r), buf: b.buf[:0]}
	return b
}

func takesGzip(r *http.Request) bool {
	for token := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if strings.TrimSpace(token) == "gzip" {
			return true
		}
	}
	return false
}

// Write collects p, or sends what is collected with it.
func (b *body) Write(p []byte) (int, error) {
	limit := chunk
	if b.gzip && !b.started {
		limit = gzipFrom
	}
	if len(b.buf)+len(p) <= limit {
		b.buf = append(b.buf, p...)
		return len(p), nil
	}
	if err := b.send(); err != nil {
		return 0, err
	}
	if len(p) >= chunk {
		return len(p), b.put(p)
	}
	b.buf = append(b.buf, p...)
	return len(p), nil
}

// send begins the answer, if it has not begun, and sends what is collected.
func (b *body) send() error {
	if !b.started {
		b.started = true
		b.guard = newGuard(b.w)
		if b.gzip {
			h := b.w.Header()
			h.Set("Content-Encoding", "gzip")
			h.Add("Vary", "Accept-Encoding")
			b.z = gzipper.Get().(*gzip.Writer)
			b.z.Reset(b.w)
		}
		b.w.WriteHeader(b.code)
	}
	err := b.put(b.buf)
	b.buf = b.buf[:0]
	return err
}

func (b *body) put(p []byte) error {
	return b.guard.write(func() error {
		var err error
		if b.z != nil {
			_, err = b.z.Write(p)
		} else {
			_, err = b.w.Write(p)
		}
		return err
	})
}

// Close sends the rest. The body must not be used afterwards.
func (b *body) Close() error {
	var err error
	if !b.started {
		b.w.Header()["Content-Length"] = []string{strconv.Itoa(len(b.buf))}
		b.w.WriteHeader(b.code)
		b.guard = newGuard(b.w)
		err = b.put(b.buf)
	} else {
		err = b.send()
		if b.z != nil && err == nil {
			err = b.guard.write(b.z.Close)
		}
	}
	b.free()
	return err
}

// free gives the buffers back without sending anything.
func (b *body) free() {
	if b.guard != nil {
		b.guard.close()
	}
	if b.z != nil {
		b.z.Reset(nil)
		gzipper.Put(b.z)
	}
	kept := b.buf[:0]
	if cap(kept) > 2*gzipFrom {
		kept = nil
	}
	*b = body{buf: kept}
	bodies.Put(b)
}
