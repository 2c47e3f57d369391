// Package bootstrap looks after the tokens by which new nodes join, the Secrets bootstrap-token-<id> of kube-system: one
// controller deletes those whose time is over, one signs the ConfigMap kube-public/cluster-info with each of them, so
// that a node which knows nothing but a token can trust what it reads there.
//
// Reads the Secrets of that type and that ConfigMap; writes the ConfigMap, deletes Secrets. The signature is a JWS with
// detached content (RFC 7515, appendix F) by HMAC with SHA-256, whose key is the secret half of the token.
package bootstrap

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

const (
	infoName   = "cluster-info"
	kubeconfig = "kubeconfig"
	signature  = "jws-kubeconfig-" // and the token's id
	secretName = "bootstrap-token-"
)

// tokens is the cache of the Secrets that both controllers share.
func tokens(env control.Env) *client.Informer[corev1.Secret] {
	return client.Secrets.Informer(env.Informers, client.Options{
		Namespace: metav1.NamespaceSystem, FieldSelector: "type=" + string(corev1.SecretTypeBootstrapToken),
	})
}

// ends is when a token's time is over; zero: never. One whose time cannot be read is over.
func ends(s *corev1.Secret) time.Time {
	text, ok := s.Data["expiration"]
	if !ok || len(text) == 0 {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return time.Unix(0, 0)
	}
	return at
}

func over(s *corev1.Secret, now time.Time) bool {
	at := ends(s)
	return !at.IsZero() && !now.Before(at)
}

// signing returns the id and the secret of a token that may sign.
func signing(s *corev1.Secret, now time.Time) (id, secret string, ok bool) {
	id, secret = string(s.Data["token-id"]), string(s.Data["token-secret"])
	return id, secret, s.DeletionTimestamp == nil && id != "" && secret != "" && s.Name == secretName+id &&
		string(s.Data["usage-bootstrap-signing"]) == "true" && !over(s, now)
}

// sign makes the detached signature of the content.
func sign(content, id, secret string) string {
	encode := base64.RawURLEncoding.EncodeToString
	header := encode([]byte(`{"alg":"HS256","kid":"` + id + `"}`))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(header + "." + encode([]byte(content)))) //nolint:errcheck // never fails
	return header + ".." + encode(mac.Sum(nil))
}

// signed is the data of cluster-info with the signatures of the tokens and no others.
func signed(data map[string]string, secrets []*corev1.Secret, now time.Time) map[string]string {
	out := maps.Clone(data)
	maps.DeleteFunc(out, func(key, _ string) bool { return strings.HasPrefix(key, signature) })
	content, ok := data[kubeconfig]
	if !ok {
		return out
	}
	for _, s := range secrets {
		if id, secret, ok := signing(s, now); ok {
			out[signature+id] = sign(content, id, secret)
		}
	}
	return out
}

// Signer signs cluster-info.
type Signer struct {
	env     control.Env
	secrets *client.Informer[corev1.Secret]
	infos   *client.Informer[corev1.ConfigMap]
	queue   *control.Queue
}

// NewSigner makes the controller and has its caches filled.
func NewSigner(env control.Env) (control.Runner, error) {
	c := &Signer{env: env, secrets: tokens(env), infos: client.ConfigMaps.Informer(env.Informers, client.Options{
		Namespace: metav1.NamespacePublic, FieldSelector: "metadata.name=" + infoName,
	})}
	c.queue = env.Queue("bootstrap_signer_queue", 1, c.reconcile)
	c.secrets.OnChange(func(_, _ *corev1.Secret) { c.queue.Add(info) })
	c.infos.OnChange(func(_, _ *corev1.ConfigMap) { c.queue.Add(info) })
	return c, nil
}

var info = reconcile.Key{Namespace: metav1.NamespacePublic, Name: infoName}

// Run signs until ctx ends.
func (c *Signer) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { c.queue.Add(info) })
}

func (c *Signer) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	have, ok := c.infos.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	now := time.Now()
	var secrets []*corev1.Secret
	var next time.Time
	for s := range c.secrets.All() {
		secrets = append(secrets, s)
		if at := ends(s); at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	var result reconcile.Result
	if !next.IsZero() {
		result.RequeueAfter = next.Sub(now)
	}
	data := signed(have.Data, secrets, now)
	if maps.Equal(data, have.Data) {
		return result, nil
	}
	have = have.DeepCopy()
	have.Data = data
	if _, err := client.ConfigMaps.Update(ctx, c.env.API, have); control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("sign ConfigMap %s: %w", key, err)
	}
	return result, nil
}

// Cleaner deletes tokens whose time is over.
type Cleaner struct {
	env     control.Env
	secrets *client.Informer[corev1.Secret]
	queue   *control.Queue
}

// NewCleaner makes the controller and has its caches filled.
func NewCleaner(env control.Env) (control.Runner, error) {
	c := &Cleaner{env: env, secrets: tokens(env)}
	c.queue = env.Queue("token_cleaner", 1, c.reconcile)
	c.secrets.OnChange(func(_, now *corev1.Secret) {
		if now != nil {
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	return c, nil
}

// Run deletes until ctx ends.
func (c *Cleaner) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.secrets.All()) })
}

func (c *Cleaner) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	s, ok := c.secrets.Get(key.Namespace, key.Name)
	if !ok || s.DeletionTimestamp != nil || ends(s).IsZero() {
		return reconcile.Result{}, nil
	}
	if rest := time.Until(ends(s)); rest > 0 {
		return reconcile.Result{RequeueAfter: rest}, nil
	}
	err := client.Secrets.Delete(ctx, c.env.API, key.Namespace, key.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion},
	})
	if control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("delete bootstrap token %s, whose time is over: %w", s.Name, err)
	}
	return reconcile.Result{}, nil
}
