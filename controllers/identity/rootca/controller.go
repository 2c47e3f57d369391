// Package rootca puts the certificate authority of the API server into the ConfigMap kube-root-ca.crt of every
// namespace, from where it is mounted into pods.
//
// Reads namespaces and the ConfigMaps of that name, and the file of --root-ca-file at start; writes those ConfigMaps.
package rootca

import (
	"bytes"
	"context"
	"crypto/x509"
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

const (
	// Name is that of the ConfigMaps.
	Name        = "kube-root-ca.crt"
	dataKey     = "ca.crt"
	description = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints " +
		"such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
	descriptionKey = "kubernetes.io/description"
)

// Needs says that the file is missing from the configuration.
func Needs(c config.Config) string {
	if c.RootCAFile == "" {
		return "--root-ca-file is not set"
	}
	return ""
}

// Controller publishes the authority.
type Controller struct {
	env        control.Env
	bundle     string
	namespaces *client.Informer[corev1.Namespace]
	configs    *client.Informer[corev1.ConfigMap]
	queue      *control.Queue
}

// New reads the file, makes the controller and has its caches filled. Only ConfigMaps of our name are cached.
func New(env control.Env) (control.Runner, error) {
	bundle, err := readBundle(env.Config.RootCAFile)
	if err != nil {
		return nil, err
	}
	c := &Controller{
		env: env, bundle: bundle, namespaces: env.Namespaces(),
		configs: client.ConfigMaps.Informer(env.Informers, client.Options{FieldSelector: "metadata.name=" + Name}),
	}
	c.queue = env.Queue("root_ca_cert_publisher", 4, c.reconcile)
	c.namespaces.OnChange(func(_, now *corev1.Namespace) {
		if now != nil {
			c.queue.Add(reconcile.Key{Name: now.Name})
		}
	})
	c.configs.OnChange(func(old, now *corev1.ConfigMap) {
		if now == nil {
			now = old
		}
		c.queue.Add(reconcile.Key{Name: now.Namespace})
	})
	return c, nil
}

// readBundle reads certificates in PEM form.
func readBundle(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read --root-ca-file: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(data) {
		return "", fmt.Errorf("read --root-ca-file: %s holds no certificate", file)
	}
	return string(bytes.TrimSpace(data)) + "\n", nil
}

// Run publishes until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.namespaces.All()) })
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	ns, ok := c.namespaces.Get("", key.Name)
	if !ok || ns.Status.Phase == corev1.NamespaceTerminating || ns.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	have, _ := c.configs.Get(ns.Name, Name)
	want := makePlan(ns.Name, c.bundle, have)
	if want == nil {
		return reconcile.Result{}, nil
	}
	var err error
	if have == nil {
		_, err = client.ConfigMaps.Create(ctx, c.env.API, want)
	} else {
		_, err = client.ConfigMaps.Update(ctx, c.env.API, want)
	}
	if err != nil && !apierrors.IsAlreadyExists(err) && !control.Ending(err) && control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("write ConfigMap %s/%s: %w", ns.Name, Name, err)
	}
	return reconcile.Result{}, nil
}

// makePlan returns the ConfigMap to write, nil when the one that exists is right. It holds the bundle and nothing else;
// labels and annotations of others stay.
func makePlan(namespace, bundle string, have *corev1.ConfigMap) *corev1.ConfigMap {
	if have != nil && len(have.Data) == 1 && have.Data[dataKey] == bundle && len(have.BinaryData) == 0 &&
		have.Annotations[descriptionKey] != "" {
		return nil
	}
	out := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: Name}}
	if have != nil {
		out = have.DeepCopy()
	}
	metav1.SetMetaDataAnnotation(&out.ObjectMeta, descriptionKey, description)
	out.Data, out.BinaryData = map[string]string{dataKey: bundle}, nil
	return out
}
