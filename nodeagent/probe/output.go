package probe

import (
	"bytes"
	"sync"
)

// MaxOutput is how much of a command's output is kept for messages.
const MaxOutput = 10 << 10

// Output keeps the beginning of what a command prints and drops the rest, so that a command cannot fill the memory of
// the agent. Both streams of a command may write to it at once.
type Output struct {
	mu   sync.Mutex // guards kept
	kept bytes.Buffer
}

// Write never fails.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if room := MaxOutput - o.kept.Len(); room > 0 {
		o.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// String returns what was kept.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.kept.String()
}
