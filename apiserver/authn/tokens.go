package authn

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"regexp"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/request"
)

// TokenFile knows the tokens of a file.
type TokenFile struct {
	by map[[sha256.Size]byte]*request.UserInfo
}

// OpenTokenFile reads lines of token,name,uid,"group1,group2".
func OpenTokenFile(path string) (*TokenFile, error) {
	rows, err := readRows(path, "token file")
	if err != nil {
		return nil, err
	}
	f := &TokenFile{map[[sha256.Size]byte]*request.UserInfo{}}
	for _, r := range rows {
		f.by[sha256.Sum256([]byte(r.secret))] = r.user
	}
	return f, nil
}

// Authenticate finds a token by its hash, so that the time it takes says nothing about near misses.
func (f *TokenFile) Authenticate(_ context.Context, token string, _ []string) (*Identity, error) {
	user := f.by[sha256.Sum256([]byte(token))]
	if user == nil {
		return nil, ErrNotMine
	}
	return &Identity{User: user}, nil
}

// Bootstrap knows the tokens by which new nodes join: Secrets bootstrap-token-<id> of kube-system.
type Bootstrap struct {
	// Secret looks one up in kube-system; nil when there is none.
	Secret func(name string) *corev1.Secret
	Now    func() time.Time // nil: the real clock
}

// Names of bootstrap tokens.
const (
	bootstrapUser  = "system:bootstrap:"
	bootstrapGroup = "system:bootstrappers"
)

var (
	bootstrapForm  = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)
	bootstrapExtra = regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`)
)

// Authenticate checks a token of the form id.secret.
func (b *Bootstrap) Authenticate(_ context.Context, token string, _ []string) (*Identity, error) {
	m := bootstrapForm.FindStringSubmatch(token)
	if m == nil {
		return nil, ErrNotMine
	}
	now := time.Now
	if b.Now != nil {
		now = b.Now
	}
	s := b.Secret("bootstrap-token-" + m[1])
	switch {
	case s == nil || s.DeletionTimestamp != nil || s.Type != corev1.SecretTypeBootstrapToken || string(s.Data["token-id"]) != m[1],
		subtle.ConstantTimeCompare(s.Data["token-secret"], []byte(m[2])) != 1:
		return nil, errors.New("unknown bootstrap token")
	case string(s.Data["usage-bootstrap-authentication"]) != "true":
		return nil, errors.New("the bootstrap token is not meant for logging in")
	}
	if text := string(s.Data["expiration"]); text != "" {
		end, err := time.Parse(time.RFC3339, text)
		if err != nil || !now().Before(end) {
			return nil, errors.New("the bootstrap token has expired")
		}
	}
	groups := []string{bootstrapGroup}
	for _, g := range splitList(string(s.Data["auth-extra-groups"])) {
		if !bootstrapExtra.MatchString(g) {
			return nil, errors.New("the bootstrap token names a group that it may not: " + g)
		}
		groups = append(groups, g)
	}
	return &Identity{User: &request.UserInfo{Name: bootstrapUser + m[1], Groups: append(groups, request.Authenticated)}}, nil
}

// BootstrapNamespace is where bootstrap tokens lie.
const BootstrapNamespace = metav1.NamespaceSystem
