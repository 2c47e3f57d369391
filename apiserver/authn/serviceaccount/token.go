// Package serviceaccount issues and checks the tokens by which pods and other programs show which service account they
// are.
//
// A token is a JWT signed by one of the cluster's keys. It is bound to its account, and if asked for to a pod, a node or a
// secret as well: it ends with any of them, at once, because every check looks for the living objects. Only the signature
// and the dates are remembered, in a bounded cache. Tokens of the old kind, kept in Secrets and without an end, are good
// for as long as the Secret holds them.
package serviceaccount

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/authn"
	"hardway/apiserver/request"
)

// Names that tokens and their users carry.
const (
	UserPrefix   = "system:serviceaccount:"
	AllGroup     = "system:serviceaccounts"
	legacyIssuer = "kubernetes/serviceaccount"
	extra        = "authentication.kubernetes.io/"
)

// Options say how tokens are made and checked.
type Options struct {
	// KeyFiles hold the public keys that tokens may be signed with; SigningFile the private key that new ones are.
	// Without a SigningFile none are issued.
	KeyFiles    []string
	SigningFile string
	// Issuers are the names of this cluster in tokens: the first for new ones, all in checks.
	Issuers []string
	// Audiences are the names of this API server in tokens. Default: Issuers.
	Audiences []string
	// MaxLife bounds the life of new tokens; 0: no bound. Extend lets tokens that pods ask for by their mount live for a
	// year, so that programs that read their token only once go on.
	MaxLife time.Duration
	Extend  bool
	Objects Objects
	Now     func() time.Time // nil: the real clock
}

// Objects looks up what tokens are bound to: nil when there is none such.
type Objects interface {
	ServiceAccount(namespace, name string) *corev1.ServiceAccount
	Pod(namespace, name string) *corev1.Pod
	Node(name string) *corev1.Node
	Secret(namespace, name string) *corev1.Secret
}

// Tokens issues and checks. It is safe for concurrent use.
type Tokens struct {
	o      Options
	keys   []publicKey
	signer jose.Signer // nil: none are issued
	cache  *lru.Cache[[sha256.Size]byte, *claims]
}

// cacheSize bounds the remembered tokens: a few per pod of a large cluster.
const cacheSize = 20_000

// New reads the keys.
func New(o Options) (*Tokens, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if len(o.Audiences) == 0 {
		o.Audiences = o.Issuers
	}
	keys, err := readPublicKeys(o.KeyFiles)
	if err != nil {
		return nil, err
	}
	t := &Tokens{o: o, keys: keys}
	if t.cache, err = lru.New[[sha256.Size]byte, *claims](cacheSize); err != nil {
		return nil, err
	}
	if o.SigningFile == "" {
		return t, nil
	}
	private, err := readSigner(o.SigningFile)
	if err != nil {
		return nil, err
	}
	public, err := newPublicKey(private.Public())
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(keys, func(k publicKey) bool { return k.id == public.id }) {
		t.keys = append(t.keys, public)
	}
	t.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: public.alg, Key: jose.JSONWebKey{Key: private, KeyID: public.id}}, nil)
	if err != nil {
		return nil, fmt.Errorf("make the signer of tokens: %w", err)
	}
	return t, nil
}

// claims are what a token says.
type claims struct {
	jwt.Claims
	Kubernetes *bound `json:"kubernetes.io,omitempty"`
	// The old kind.
	LegacyNamespace string `json:"kubernetes.io/serviceaccount/namespace,omitempty"`
	LegacyName      string `json:"kubernetes.io/serviceaccount/service-account.name,omitempty"`
	LegacyUID       string `json:"kubernetes.io/serviceaccount/service-account.uid,omitempty"`
	LegacySecret    string `json:"kubernetes.io/serviceaccount/secret.name,omitempty"`
}

type bound struct {
	Namespace      string           `json:"namespace,omitempty"`
	ServiceAccount object           `json:"serviceaccount,omitempty"`
	Pod            *object          `json:"pod,omitempty"`
	Secret         *object          `json:"secret,omitempty"`
	Node           *object          `json:"node,omitempty"`
	WarnAfter      *jwt.NumericDate `json:"warnafter,omitempty"`
}

type object struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
}

// Authenticate checks a token. It returns authn.ErrNotMine for a token that this cluster did not issue.
func (t *Tokens) Authenticate(_ context.Context, token string, audiences []string) (*authn.Identity, error) {
	if strings.Count(token, ".") != 2 {
		return nil, authn.ErrNotMine
	}
	c, err := t.verified(token)
	if err != nil {
		return nil, err
	}
	now := t.o.Now()
	if err := c.ValidateWithLeeway(jwt.Expected{Time: now}, 10*time.Second); err != nil {
		if errors.Is(err, jwt.ErrExpired) {
			return nil, errors.New("service account token has expired")
		}
		return nil, fmt.Errorf("service account token: %w", err)
	}
	if c.Kubernetes == nil {
		return t.legacy(c, token)
	}
	return t.bound(c, audiences)
}

// verified returns the claims of a token whose signature and issuer are right.
func (t *Tokens) verified(token string) (*claims, error) {
	sum := sha256.Sum256([]byte(token))
	if c, ok := t.cache.Get(sum); ok {
		return c, nil
	}
	if !t.mine(token) {
		return nil, authn.ErrNotMine
	}
	algs := make([]jose.SignatureAlgorithm, 0, len(t.keys))
	for _, k := range t.keys {
		algs = append(algs, k.alg)
	}
	parsed, err := jwt.ParseSigned(token, algs)
	if err != nil {
		return nil, fmt.Errorf("service account token: %w", err)
	}
	id := parsed.Headers[0].KeyID
	for _, k := range t.keys {
		if id != "" && id != k.id || parsed.Headers[0].Algorithm != string(k.alg) {
			continue
		}
		c := &claims{}
		if parsed.Claims(k.key, c) == nil {
			t.cache.Add(sum, c)
			return c, nil
		}
	}
	return nil, errors.New("service account token: signed by no key of this cluster")
}

// mine reads the issuer without trusting it.
func (t *Tokens) mine(token string) bool {
	part := strings.SplitN(token, ".", 3)[1]
	raw, err := decodeSegment(part)
	if err != nil {
		return false
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	return json.Unmarshal(raw, &c) == nil && (c.Issuer == legacyIssuer || slices.Contains(t.o.Issuers, c.Issuer))
}

// bound checks that everything a token is bound to lives.
func (t *Tokens) bound(c *claims, audiences []string) (*authn.Identity, error) {
	b := c.Kubernetes
	if len(audiences) == 0 {
		audiences = t.o.Audiences
	}
	shared := slices.DeleteFunc(slices.Clone(audiences), func(a string) bool { return !slices.Contains(c.Audience, a) })
	if len(shared) == 0 {
		return nil, fmt.Errorf("service account token is for the audiences %q, not for %q", []string(c.Audience), audiences)
	}
	if c.Subject != UserPrefix+b.Namespace+":"+b.ServiceAccount.Name {
		return nil, errors.New("service account token: sub claim does not fit the service account")
	}
	account := t.o.Objects.ServiceAccount(b.Namespace, b.ServiceAccount.Name)
	if account == nil || string(account.UID) != b.ServiceAccount.UID || gone(account.DeletionTimestamp, t.o.Now()) {
		return nil, errors.New("service account token has been invalidated: its service account is gone")
	}
	user := userOf(b.Namespace, account)
	add := func(key, value string) { user.Extra[extra+key] = []string{value} }
	if c.ID != "" {
		add("credential-id", "JTI="+c.ID)
	}
	if b.Pod != nil {
		pod := t.o.Objects.Pod(b.Namespace, b.Pod.Name)
		if pod == nil || string(pod.UID) != b.Pod.UID || gone(pod.DeletionTimestamp, t.o.Now()) {
			return nil, errors.New("service account token has been invalidated: its pod is gone")
		}
		add("pod-name", b.Pod.Name)
		add("pod-uid", b.Pod.UID)
	}
	if b.Secret != nil {
		secret := t.o.Objects.Secret(b.Namespace, b.Secret.Name)
		if secret == nil || string(secret.UID) != b.Secret.UID || gone(secret.DeletionTimestamp, t.o.Now()) {
			return nil, errors.New("service account token has been invalidated: its secret is gone")
		}
	}
	if b.Node != nil {
		// A token of a pod only says where the pod is; one of a node alone ends with the node.
		if b.Pod == nil {
			node := t.o.Objects.Node(b.Node.Name)
			if node == nil || string(node.UID) != b.Node.UID {
				return nil, errors.New("service account token has been invalidated: its node is gone")
			}
		}
		add("node-name", b.Node.Name)
		if b.Node.UID != "" {
			add("node-uid", b.Node.UID)
		}
	}
	return &authn.Identity{User: user, Audiences: shared}, nil
}

// grace is how long a token outlives the end that was set for its object.
const grace = 60 * time.Second

// gone says whether an object's time to go has come, a minute ago.
func gone(deletion *metav1.Time, now time.Time) bool {
	return deletion != nil && now.After(deletion.Add(grace))
}

func userOf(namespace string, account *corev1.ServiceAccount) *request.UserInfo {
	return &request.UserInfo{
		Name: UserPrefix + namespace + ":" + account.Name, UID: string(account.UID),
		Groups: []string{AllGroup, AllGroup + ":" + namespace, request.Authenticated},
		Extra:  map[string][]string{},
	}
}

// legacy checks a token of the old kind: its secret must still hold it.
func (t *Tokens) legacy(c *claims, token string) (*authn.Identity, error) {
	if c.Issuer != legacyIssuer || c.LegacyNamespace == "" || c.LegacyName == "" || c.LegacySecret == "" {
		return nil, errors.New("service account token: it names no service account")
	}
	account := t.o.Objects.ServiceAccount(c.LegacyNamespace, c.LegacyName)
	if account == nil || string(account.UID) != c.LegacyUID || account.DeletionTimestamp != nil {
		return nil, errors.New("service account token has been invalidated: its service account is gone")
	}
	secret := t.o.Objects.Secret(c.LegacyNamespace, c.LegacySecret)
	if secret == nil || secret.DeletionTimestamp != nil || string(secret.Data[corev1.ServiceAccountTokenKey]) != token {
		return nil, errors.New("service account token has been invalidated: its secret does not hold it any more")
	}
	return &authn.Identity{User: userOf(c.LegacyNamespace, account), Audiences: t.o.Audiences}, nil
}

// newID names a token in audit logs.
func newID() string { return uuid.NewString() }
