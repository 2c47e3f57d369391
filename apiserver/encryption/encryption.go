// Package encryption seals what is stored in etcd, in upstream's formats: k8s:enc:<provider>:v1:<key>:<sealed bytes>, so
// that either server reads what the other has written.
//
// Which kinds are sealed, and how, stands in the file of --encryption-provider-config. The first provider with its first
// key seals; all others only open, so that keys are changed by putting a new one in front. Values that were sealed in
// another way count as stale, and any write of the object stores them anew.
package encryption

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/store"
)

// Encryption is a configuration, of which a new one may take the place while the server runs.
type Encryption struct {
	path  string
	text  []byte
	rules atomic.Pointer[[]rule]

	reloaded atomic.Bool
}

// Open reads the configuration file.
func Open(path string) (*Encryption, error) {
	rules, text, err := load(path)
	if err != nil {
		return nil, err
	}
	e := &Encryption{path: path, text: text}
	e.rules.Store(&rules)
	return e, nil
}

// For is the transformer of a kind.
func (e *Encryption) For(gr schema.GroupResource) store.Transformer { return &transformer{e, gr} }

// Follow asks key services whether their keys have changed and, if reload, reads the file again when that has, until ctx
// ends. A file that is wrong changes nothing but the log.
func (e *Encryption) Follow(ctx context.Context, every time.Duration, reload bool, log *zap.Logger) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		for s := range e.services() {
			if err := s.refresh(ctx); err != nil && ctx.Err() == nil {
				log.Error("key service", zap.String("provider", s.name), zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if reload {
			e.reload(log)
		}
	}
}

func (e *Encryption) reload(log *zap.Logger) {
	switch rules, text, err := load(e.path); {
	case err != nil:
		log.Error("the encryption configuration stays as it was", zap.Error(err))
	case !bytes.Equal(text, e.text):
		for s := range e.services() {
			time.AfterFunc(time.Minute, s.close) // when nobody uses it any more
		}
		e.text = text
		e.rules.Store(&rules)
		e.reloaded.Store(true)
		log.Info("a new encryption configuration is in force", zap.String("file", e.path))
	}
}

// Ready is a readiness check: all key services answer.
func (e *Encryption) Ready(context.Context) error {
	for s := range e.services() {
		if err := s.ready(); err != nil {
			return err
		}
	}
	return nil
}

// services yields the key services of the configuration.
func (e *Encryption) services() iter.Seq[*service] {
	return func(yield func(*service) bool) {
		for _, r := range *e.rules.Load() {
			for _, s := range r.ring.seals {
				if k, ok := s.cipher.(*service); ok && !yield(k) {
					return
				}
			}
		}
	}
}

// Reloaded says that values may be stale that were not when they were opened.
func (e *Encryption) Reloaded() bool {
	if e.reloaded.Load() {
		return true
	}
	for s := range e.services() {
		if s.rotated.Load() {
			return true
		}
	}
	return false
}

// transformer seals the values of one kind as the configuration says at the moment.
type transformer struct {
	e  *Encryption
	gr schema.GroupResource
}

// Reloaded passes on the configuration's.
func (t *transformer) Reloaded() bool { return t.e.Reloaded() }

func (t *transformer) ring() *ring {
	if r := find(*t.e.rules.Load(), t.gr); r != nil {
		return r
	}
	return plain
}

// Seal seals with the first key.
func (t *transformer) Seal(ctx context.Context, key string, plain []byte) ([]byte, error) {
	s := t.ring().seals[0]
	if s.cipher == nil {
		return plain, nil
	}
	out, err := s.cipher.seal(ctx, []byte(s.prefix), plain, []byte(key))
	if err != nil {
		return nil, fmt.Errorf("encrypt %s: %w", key, err)
	}
	return out, nil
}

// Open opens with whichever key fits; stale says that it is not the first one.
func (t *transformer) Open(ctx context.Context, key string, stored []byte) (plain []byte, stale bool, err error) {
	for i, s := range t.ring().seals {
		if s.cipher == nil {
			if bytes.HasPrefix(stored, []byte("k8s:enc:")) {
				continue
			}
			return stored, i > 0, nil
		}
		rest, ok := bytes.CutPrefix(stored, []byte(s.prefix))
		if !ok {
			continue
		}
		if plain, stale, err = s.cipher.open(ctx, rest, []byte(key)); err != nil {
			return nil, false, fmt.Errorf("decrypt %s: %w", key, err)
		}
		return plain, stale || i > 0, nil
	}
	if bytes.HasPrefix(stored, []byte("k8s:enc:")) {
		return nil, false, fmt.Errorf("no configured key opens %s, which begins with %q", key, prefixOf(stored))
	}
	return nil, false, fmt.Errorf("%s is not encrypted, and the configuration has no identity provider that would read it", key)
}

// prefixOf is the readable beginning of a sealed value: k8s:enc:<provider>:<version>:<key>:.
func prefixOf(stored []byte) []byte {
	at := 0
	for range 5 {
		next := bytes.IndexByte(stored[at:], ':')
		if next < 0 || next > 64 {
			break
		}
		at += next + 1
	}
	return stored[:at]
}

// ring holds the ways to seal and open, the first of which seals.
type ring struct{ seals []seal }

// plain is the ring of kinds that the configuration does not name.
var plain = &ring{[]seal{{}}}

// seal is a cipher and what values begin with that it has sealed; without a cipher values are stored plainly.
type seal struct {
	prefix string
	cipher cipher
}
