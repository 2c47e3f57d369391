package serve

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// isWebSocket says that a watch wants its events as WebSocket messages, as browsers do.
func isWebSocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// socketWrite bounds how long one message may take to be taken by the client.
const socketWrite = 30 * time.Second

// webSocket sends every event as one message: text for JSON, binary for protobuf. Whatever the client sends is read and
// dropped; its closing ends the watch with the request's context.
func (s *stream) webSocket(ctx context.Context, next next) error {
	// A browser shows its user's certificate to whatever page asks, so a page of another origin is refused: the
	// upgrader's default.
	var up websocket.Upgrader
	conn, err := up.Upgrade(s.w, s.r, nil)
	if err != nil {
		return nil // Upgrade has answered
	}
	defer conn.Close()
	conn.SetReadLimit(4 << 10)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		for {
			if _, _, err := conn.NextReader(); err != nil {
				return
			}
		}
	}()
	kind := websocket.TextMessage
	if s.media.encoding == inProtobuf {
		kind = websocket.BinaryMessage
	}
	send := func(frames []byte) error {
		if err := conn.SetWriteDeadline(time.Now().Add(socketWrite)); err != nil {
			return err
		}
		if kind == websocket.BinaryMessage {
			return conn.WriteMessage(kind, frames)
		}
		for line := range bytes.Lines(frames) {
			if err := conn.WriteMessage(kind, bytes.TrimSuffix(line, []byte("\n"))); err != nil {
				return err
			}
		}
		return nil
	}
	s.run(ctx, next, send, func() error { return nil })
	_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	return nil
}
