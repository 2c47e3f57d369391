// Package legacytoken fills the Secrets that ask for a token of a service account without an end: those of the type
// kubernetes.io/service-account-token. Tokens that end are had from the account's subresource token, and are better.
//
// Reads Secrets of that type and service accounts; writes those Secrets, and deletes them when their account is gone.
// That it is gone is asked of the API server, not of a cache.
package legacytoken

import (
	"bytes"
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/config"
	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Needs says that there is no key to sign with.
func Needs(c config.Config) string {
	if c.ServiceAccountKey == "" {
		return "--service-account-private-key-file is not set"
	}
	return ""
}

// Controller fills Secrets.
type Controller struct {
	env      control.Env
	signer   *signer
	ca       []byte
	secrets  *client.Informer[corev1.Secret]
	accounts *client.Informer[corev1.ServiceAccount]
	queue    *control.Queue
}

const byAccount = "account"

// New reads the key, makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	s, err := loadSigner(env.Config.ServiceAccountKey)
	if err != nil {
		return nil, fmt.Errorf("read --service-account-private-key-file: %w", err)
	}
	c := &Controller{
		env: env, signer: s, accounts: client.ServiceAccounts.Informer(env.Informers, client.Options{}),
		secrets: client.Secrets.Informer(env.Informers, client.Options{
			FieldSelector: "type=" + string(corev1.SecretTypeServiceAccountToken),
			Indexes: map[string]func(any) []string{byAccount: func(obj any) []string {
				if s, ok := obj.(*corev1.Secret); ok {
					return []string{s.Namespace + "/" + s.Annotations[corev1.ServiceAccountNameKey]}
				}
				return nil
			}},
		}),
	}
	if file := env.Config.RootCAFile; file != "" {
		if c.ca, err = os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("read --root-ca-file: %w", err)
		}
	}
	c.queue = env.Queue("serviceaccount_tokens_secret", env.Config.WorkersFor("concurrent-serviceaccount-token-syncs"), c.reconcile)
	c.secrets.OnChange(func(_, now *corev1.Secret) {
		if now != nil {
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	c.accounts.OnChange(func(old, now *corev1.ServiceAccount) {
		if old != nil && now != nil && old.UID == now.UID {
			return
		}
		if now == nil {
			now = old
		}
		for _, s := range c.secrets.ByIndex(byAccount, now.Namespace+"/"+now.Name) {
			c.queue.Add(reconcile.KeyOf(s))
		}
	})
	return c, nil
}

// Run fills Secrets until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.secrets.All()) })
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	secret, ok := c.secrets.Get(key.Namespace, key.Name)
	name := ""
	if ok {
		name = secret.Annotations[corev1.ServiceAccountNameKey]
	}
	if name == "" || secret.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	account, err := client.ServiceAccounts.Get(ctx, c.env.API, key.Namespace, name)
	if control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("look for service account %s/%s: %w", key.Namespace, name, err)
	}
	if err != nil || secret.Annotations[corev1.ServiceAccountUIDKey] != "" && secret.Annotations[corev1.ServiceAccountUIDKey] != string(account.UID) {
		return reconcile.Result{}, c.remove(ctx, secret)
	}
	if c.full(secret, account) {
		return reconcile.Result{}, nil
	}
	out := secret.DeepCopy()
	metav1.SetMetaDataAnnotation(&out.ObjectMeta, corev1.ServiceAccountUIDKey, string(account.UID))
	if out.Data == nil {
		out.Data = map[string][]byte{}
	}
	if len(out.Data[corev1.ServiceAccountTokenKey]) == 0 {
		token, err := c.signer.token(account, secret.Name)
		if err != nil {
			return reconcile.Result{}, err
		}
		out.Data[corev1.ServiceAccountTokenKey] = []byte(token)
	}
	out.Data[corev1.ServiceAccountNamespaceKey] = []byte(secret.Namespace)
	if len(c.ca) > 0 {
		out.Data[corev1.ServiceAccountRootCAKey] = c.ca
	}
	if _, err := client.Secrets.Update(ctx, c.env.API, out); control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("fill Secret %s with a token: %w", key, err)
	}
	return reconcile.Result{}, nil
}

// full says whether the Secret holds all it should.
func (c *Controller) full(s *corev1.Secret, account *corev1.ServiceAccount) bool {
	return s.Annotations[corev1.ServiceAccountUIDKey] == string(account.UID) && len(s.Data[corev1.ServiceAccountTokenKey]) > 0 &&
		string(s.Data[corev1.ServiceAccountNamespaceKey]) == s.Namespace && (len(c.ca) == 0 || bytes.Equal(s.Data[corev1.ServiceAccountRootCAKey], c.ca))
}

func (c *Controller) remove(ctx context.Context, s *corev1.Secret) error {
	err := client.Secrets.Delete(ctx, c.env.API, s.Namespace, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID}})
	if control.Gone(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete Secret %s/%s, whose service account is gone: %w", s.Namespace, s.Name, err)
	}
	return nil
}
