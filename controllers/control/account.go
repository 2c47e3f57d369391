package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"hardway/shared/client"
)

// As returns an Env whose requests are those of a service account in kube-system, which may do what its role says and
// no more. Watches of the shared caches and Events stay those of the daemon. The account is made when it is missing;
// nothing is asked before the first request.
func (e Env) As(account string) (Env, error) {
	cfg := e.API.Config()
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return e, fmt.Errorf("address of the API server: %w", err)
	}
	t := &tokens{api: e.API, account: account, at: base.JoinPath("api/v1/namespaces", metav1.NamespaceSystem, "serviceaccounts", account, "token")}
	cfg = rest.AnonymousClientConfig(cfg)
	cfg.UserAgent += "/" + account
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return bearer{next, t} })
	if e.API, err = client.New(cfg); err != nil {
		return e, fmt.Errorf("make a client for service account %s: %w", account, err)
	}
	return e, nil
}

// bearer sends requests with the account's token.
type bearer struct {
	next   http.RoundTripper
	tokens *tokens
}

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := b.tokens.get(r.Context(), time.Now())
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := b.next.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		b.tokens.drop(token) // its account may have been made anew
	}
	return resp, err
}

// tokens keeps a token of an account at hand.
type tokens struct {
	api     *client.API // of the daemon
	account string
	at      *url.URL

	mu    sync.Mutex // guards token and renew
	token string
	renew time.Time
}

// tokenLife is what is asked for; a token is renewed after four fifths of what it is given.
const tokenLife = time.Hour

func (t *tokens) get(ctx context.Context, now time.Time) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token != "" && now.Before(t.renew) {
		return t.token, nil
	}
	got, err := t.request(ctx)
	if apierrors.IsNotFound(err) {
		if err = t.makeAccount(ctx); err == nil {
			got, err = t.request(ctx)
		}
	}
	if err != nil {
		return "", fmt.Errorf("get a token for service account kube-system/%s: %w", t.account, err)
	}
	t.token, t.renew = got.Token, now.Add(got.ExpirationTimestamp.Sub(now)*4/5)
	return t.token, nil
}

func (t *tokens) drop(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token == token {
		t.token = ""
	}
}

func (t *tokens) makeAccount(ctx context.Context) error {
	_, err := client.ServiceAccounts.Create(ctx, t.api, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: t.account}})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// maxToken bounds what is read of an answer.
const maxToken = 1 << 20

func (t *tokens) request(ctx context.Context) (*authenticationv1.TokenRequestStatus, error) {
	body, err := json.Marshal(authenticationv1.TokenRequest{
		TypeMeta: metav1.TypeMeta{APIVersion: authenticationv1.SchemeGroupVersion.String(), Kind: "TokenRequest"},
		Spec:     authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(tokenLife / time.Second))},
	})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := t.api.HTTP().Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxToken))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		var status metav1.Status
		if json.Unmarshal(data, &status) != nil || status.Code == 0 {
			return nil, fmt.Errorf("%s: %.200s", resp.Status, data)
		}
		return nil, &apierrors.StatusError{ErrStatus: status}
	}
	var got authenticationv1.TokenRequest
	if err := json.Unmarshal(data, &got); err != nil {
		return nil, fmt.Errorf("decode the token: %w", err)
	}
	return &got.Status, nil
}
