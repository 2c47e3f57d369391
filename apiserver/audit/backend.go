package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// The ways in which a backend takes events.
const (
	Batch          = "batch"           // behind a buffer: what does not fit is dropped
	Blocking       = "blocking"        // each request waits until its events are written
	BlockingStrict = "blocking-strict" // and is refused when the first one cannot be
)

// Modes are those names.
var Modes = []string{Batch, Blocking, BlockingStrict}

// Buffer is how events reach a backend.
type Buffer struct {
	Mode string
	Size int           // events that wait at most
	Most int           // events written at once at most
	Wait time.Duration // how long an event waits for company at most
}

// Check returns an error that says what is wrong with the values.
func (b *Buffer) Check() error {
	switch {
	case !slices.Contains(Modes, b.Mode):
		return fmt.Errorf("mode %q is none of %q", b.Mode, Modes)
	case b.Size <= 0 || b.Most <= 0 || b.Wait <= 0:
		return errors.New("buffer size, batch size and wait must be positive")
	}
	return nil
}

// sink writes events, encoded as JSON, for good.
type sink interface {
	write(ctx context.Context, events [][]byte) error
	close()
}

type backend struct {
	Buffer
	sink   sink
	queue  chan []byte
	failed prometheus.Counter
	log    *zap.Logger
}

func newBackend(b Buffer, s sink, failed prometheus.Counter, log *zap.Logger) *backend {
	return &backend{Buffer: b, sink: s, queue: make(chan []byte, b.Size), failed: failed, log: log}
}

// offer takes an event. Only a strict backend returns an error, and only for a request that has not been served.
func (b *backend) offer(event []byte, stage Stage) error {
	if b.Mode == Batch {
		select {
		case b.queue <- event:
		default:
			b.failed.Inc()
		}
		return nil
	}
	err := b.sink.write(context.Background(), [][]byte{event})
	if err == nil {
		return nil
	}
	b.failed.Inc()
	b.log.Error("write audit event", zap.Error(err))
	if b.Mode == BlockingStrict && stage == RequestReceived {
		return err
	}
	return nil
}

// drain is how long the buffer may take to empty at the end.
const drain = 5 * time.Second

// run writes batches until ctx ends and the buffer is empty.
func (b *backend) run(ctx context.Context) {
	defer b.sink.close()
	timer := time.NewTimer(b.Wait)
	defer timer.Stop()
	var batch [][]byte
	for {
		select {
		case e := <-b.queue:
			if len(batch) == 0 {
				timer.Reset(b.Wait)
			}
			if batch = append(batch, e); len(batch) < b.Most {
				continue
			}
		case <-timer.C:
		case <-ctx.Done():
			b.last(batch)
			return
		}
		b.flush(ctx, batch)
		batch = nil
	}
}

// last writes what is left when the server stops.
func (b *backend) last(batch [][]byte) {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	for {
		select {
		case e := <-b.queue:
			if batch = append(batch, e); len(batch) >= b.Most {
				b.flush(ctx, batch)
				batch = nil
			}
		default:
			b.flush(ctx, batch)
			return
		}
	}
}

func (b *backend) flush(ctx context.Context, batch [][]byte) {
	if len(batch) == 0 {
		return
	}
	if err := b.sink.write(ctx, batch); err != nil {
		b.failed.Add(float64(len(batch)))
		b.log.Error("audit events are lost", zap.Int("events", len(batch)), zap.Error(err))
	}
}
