package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/shared/client"
)

// Tokens are asked for again at four fifths of their life, or after a day.
const (
	oldestToken  = 24 * time.Hour
	maxTokenBody = 1 << 20
	maxTokens    = 10_000 // beyond it, all are forgotten and asked for again
)

// tokens gets service account tokens that are bound to a pod, and keeps them while they are fresh.
type tokens struct {
	api *client.API

	mu   sync.Mutex // guards kept
	kept map[tokenKey]token
}

type tokenKey struct {
	uid               types.UID
	account, audience string
	seconds           int64
}

type token struct {
	value          string
	renew, expires time.Time
}

// Token implements projected.Tokens.
func (t *tokens) Token(ctx context.Context, pod *corev1.Pod, source *corev1.ServiceAccountTokenProjection) (string, error) {
	value, _, err := t.get(ctx, pod, source.Audience, source.ExpirationSeconds)
	return value, err
}

// get returns a token of the pod for an audience, and when it expires.
func (t *tokens) get(ctx context.Context, pod *corev1.Pod, audience string, seconds *int64) (string, time.Time, error) {
	k := tokenKey{uid: pod.UID, account: pod.Spec.ServiceAccountName, audience: audience, seconds: 3600}
	if k.account == "" {
		k.account = "default"
	}
	if seconds != nil {
		k.seconds = *seconds
	}
	t.mu.Lock()
	have, ok := t.kept[k]
	t.mu.Unlock()
	if ok && time.Now().Before(have.renew) {
		return have.value, have.expires, nil
	}
	asked := time.Now()
	got, err := t.request(ctx, pod, k)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("token of service account %s/%s: %w", pod.Namespace, k.account, err)
	}
	life := time.Until(got.Status.ExpirationTimestamp.Time)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) >= maxTokens {
		clear(t.kept)
	}
	expires := got.Status.ExpirationTimestamp.Time
	t.kept[k] = token{got.Status.Token, asked.Add(min(life*4/5, oldestToken)), expires}
	return got.Status.Token, expires, nil
}

// request asks the apiserver's TokenRequest subresource.
func (t *tokens) request(ctx context.Context, pod *corev1.Pod, k tokenKey) (*authenticationv1.TokenRequest, error) {
	ask := authenticationv1.TokenRequest{
		TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"},
		Spec: authenticationv1.TokenRequestSpec{
			ExpirationSeconds: &k.seconds,
			BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
		},
	}
	if k.audience != "" {
		ask.Spec.Audiences = []string{k.audience}
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	host := t.api.Config().Host
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	path, err := url.JoinPath(host, "api/v1/namespaces", pod.Namespace, "serviceaccounts", k.account, "token")
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(body))
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
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenBody))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		var st metav1.Status
		if json.Unmarshal(data, &st) != nil || st.Message == "" {
			st.Message = resp.Status
		}
		return nil, fmt.Errorf("the apiserver does not issue it: %s", st.Message)
	}
	var got authenticationv1.TokenRequest
	if err := json.Unmarshal(data, &got); err != nil {
		return nil, fmt.Errorf("answer of the apiserver: %w", err)
	}
	return &got, nil
}
