package encryption

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	kmsapi "k8s.io/kms/apis/v2"
)

const (
	seedSize = 32 // of what the key service seals
	infoSize = 32 // of what a value's own key is made from, beside the seed
	// validFor is how long a key may be used after the service was last heard.
	validFor = 3 * time.Minute
	// knownSeeds bounds the seeds that are remembered: one for each start of a server and each key of the service.
	knownSeeds = 1000
)

// service seals with keys that are made from a seed; the seed is sealed by a key service, whose own key never leaves it,
// and is stored beside each value. So the service is asked once a start and once a key, not once a value.
type service struct {
	name    string
	timeout time.Duration
	conn    *grpc.ClientConn
	client  kmsapi.KeyManagementServiceClient
	seeds   *lru.Cache[string, []byte] // by key and sealed seed
	rotated atomic.Bool                // the service has a newer key than when this one began

	mu  sync.Mutex // held while the service is asked for a new seed
	now atomic.Pointer[current]
}

// current is what seals at the moment.
type current struct {
	seed []byte
	head envelope
	// heard is when the service was last well and had this key.
	heard time.Time
}

func newService(name, endpoint string, timeout time.Duration) (*service, error) {
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials())) // a socket of this machine
	if err != nil {
		return nil, err
	}
	seeds, err := lru.New[string, []byte](knownSeeds)
	if err != nil {
		return nil, err
	}
	return &service{name: name, timeout: timeout, conn: conn, client: kmsapi.NewKeyManagementServiceClient(conn), seeds: seeds}, nil
}

func (s *service) close() { s.conn.Close() } //nolint:errcheck // nothing is under way

// refresh asks how the service is, and takes a new seed when its key has changed.
func (s *service) refresh(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ask(ctx)
}

func (s *service) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	status, err := s.client.Status(ctx, &kmsapi.StatusRequest{})
	switch {
	case err != nil:
		return fmt.Errorf("ask for its status: %w", err)
	case status.GetVersion() != "v2" && status.GetVersion() != "v2beta1":
		return fmt.Errorf("it speaks version %q, wanted is v2", status.GetVersion())
	case status.GetHealthz() != "ok":
		return fmt.Errorf("it is not well: %s", status.GetHealthz())
	case status.GetKeyId() == "":
		return errors.New("it names no key")
	}
	was := s.now.Load()
	if was != nil && was.head.keyID == status.GetKeyId() {
		s.now.Store(&current{was.seed, was.head, time.Now()})
		return nil
	}
	seed := make([]byte, seedSize)
	if _, err := rand.Read(seed); err != nil {
		return err
	}
	sealed, err := s.client.Encrypt(ctx, &kmsapi.EncryptRequest{Plaintext: seed, Uid: uuid.NewString()})
	if err != nil {
		return fmt.Errorf("seal a seed: %w", err)
	}
	head := envelope{keyID: sealed.GetKeyId(), source: sealed.GetCiphertext(), annotations: sealed.GetAnnotations(), seeded: true}
	if err := head.check(); err != nil {
		return err
	}
	s.seeds.Add(head.id(), seed)
	s.now.Store(&current{seed, head, time.Now()})
	if was != nil {
		s.rotated.Store(true)
	}
	return nil
}

// ready says whether values can be sealed.
func (s *service) ready() error {
	switch now := s.now.Load(); {
	case now == nil:
		return fmt.Errorf("key service %s has not answered yet", s.name)
	case time.Since(now.heard) > validFor:
		return fmt.Errorf("key service %s has not been well for %s", s.name, time.Since(now.heard).Round(time.Second))
	}
	return nil
}

func (s *service) seal(ctx context.Context, dst, plain, key []byte) ([]byte, error) {
	if s.now.Load() == nil {
		if err := s.refresh(ctx); err != nil {
			return nil, fmt.Errorf("key service %s: %w", s.name, err)
		}
	}
	if err := s.ready(); err != nil {
		return nil, err
	}
	now := s.now.Load()
	info := make([]byte, infoSize)
	if _, err := rand.Read(info); err != nil {
		return nil, err
	}
	c, err := derived(now.seed, info)
	if err != nil {
		return nil, err
	}
	e := now.head
	if e.data, err = c.seal(ctx, info, plain, key); err != nil {
		return nil, err
	}
	return e.append(dst), nil
}

func (s *service) open(ctx context.Context, sealed, key []byte) (plain []byte, stale bool, err error) {
	e, err := parseEnvelope(sealed)
	if err != nil {
		return nil, false, err
	}
	secret, err := s.secret(ctx, e)
	if err != nil {
		return nil, false, fmt.Errorf("key service %s: %w", s.name, err)
	}
	var c cipher
	data := e.data
	if e.seeded {
		if len(data) < infoSize {
			return nil, false, errShort
		}
		c, err = derived(secret, data[:infoSize])
		data = data[infoSize:]
	} else {
		c, err = newGCM(secret)
	}
	if err != nil {
		return nil, false, err
	}
	plain, _, err = c.open(ctx, data, key)
	now := s.now.Load()
	return plain, now != nil && (now.head.keyID != e.keyID || !e.seeded), err
}

// secret is the seed or key that a value was sealed with.
func (s *service) secret(ctx context.Context, e envelope) ([]byte, error) {
	id := e.id()
	if secret, ok := s.seeds.Get(id); ok {
		return secret, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	resp, err := s.client.Decrypt(ctx, &kmsapi.DecryptRequest{Ciphertext: e.source, Uid: uuid.NewString(), KeyId: e.keyID, Annotations: e.annotations})
	if err != nil {
		return nil, fmt.Errorf("open a seed: %w", err)
	}
	s.seeds.Add(id, resp.GetPlaintext())
	return resp.GetPlaintext(), nil
}

// derived is the cipher of one value.
func derived(seed, info []byte) (cipher, error) {
	key, err := hkdf.Expand(sha256.New, seed, string(info), 32)
	if err != nil {
		return nil, err
	}
	return newGCM(key)
}

// envelope is what is stored: the message EncryptedObject of kube-apiserver.
type envelope struct {
	data        []byte            // 1
	keyID       string            // 2
	source      []byte            // 3: the sealed seed or key
	annotations map[string][]byte // 4
	seeded      bool              // 5: source is a seed, not the key itself
}

// The bounds of the protocol.
const (
	mostKeyID, mostSource, mostAnnotations = 1 << 10, 1 << 10, 32 << 10
)

func (e *envelope) check() error {
	total := 0
	for k, v := range e.annotations {
		total += len(k) + len(v)
	}
	if e.keyID == "" || len(e.keyID) > mostKeyID || len(e.source) == 0 || len(e.source) > mostSource || total > mostAnnotations {
		return errors.New("a key id, a sealed seed or annotations of no fitting size")
	}
	return nil
}

// id tells seeds apart.
func (e *envelope) id() string { return e.keyID + "\x00" + string(e.source) }

// append encodes the message.
func (e *envelope) append(b []byte) []byte {
	b = protowire.AppendBytes(protowire.AppendTag(b, 1, protowire.BytesType), e.data)
	b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), e.keyID)
	b = protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), e.source)
	for k, v := range e.annotations {
		entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), k)
		entry = protowire.AppendBytes(protowire.AppendTag(entry, 2, protowire.BytesType), v)
		b = protowire.AppendBytes(protowire.AppendTag(b, 4, protowire.BytesType), entry)
	}
	if e.seeded {
		b = protowire.AppendVarint(protowire.AppendTag(b, 5, protowire.VarintType), 1)
	}
	return b
}

var errEnvelope = errors.New("the stored value is no message of a key service")

// parseEnvelope decodes the message.
func parseEnvelope(b []byte) (envelope, error) {
	var e envelope
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return e, errEnvelope
		}
		b = b[n:]
		if typ == protowire.VarintType && num == 5 {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 || v > 1 {
				return e, errEnvelope
			}
			e.seeded, b = v == 1, b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if typ != protowire.BytesType || n < 0 {
			return e, errEnvelope
		}
		b = b[n:]
		switch num {
		case 1:
			e.data = v
		case 2:
			e.keyID = string(v)
		case 3:
			e.source = v
		case 4:
			if err := e.annotate(v); err != nil {
				return e, err
			}
		}
	}
	return e, e.check()
}

// annotate takes one entry of the map.
func (e *envelope) annotate(b []byte) error {
	var key string
	var value []byte
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || typ != protowire.BytesType {
			return errEnvelope
		}
		v, m := protowire.ConsumeBytes(b[n:])
		if m < 0 {
			return errEnvelope
		}
		if num == 1 {
			key = string(v)
		} else {
			value = v
		}
		b = b[n+m:]
	}
	if e.annotations == nil {
		e.annotations = map[string][]byte{}
	}
	e.annotations[key] = value
	return nil
}
