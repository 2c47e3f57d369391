package bootstrap

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/resource"
)

// The ConfigMaps in kube-system by which other daemons learn from API servers: whose certificates to trust, and since when
// the use of long-lived tokens is noted. Their names are upstream's.
const (
	trustName    = "extension-apiserver-authentication"
	trackingName = "kube-apiserver-legacy-service-account-token-tracking"
)

var configMaps = schema.GroupResource{Resource: "configmaps"}

// announce makes the two ConfigMaps, and adds to the first what this server trusts and it does not name yet. What other
// servers trust stays in it.
func (o Options) announce(ctx context.Context) error {
	since := map[string]string{"since": time.Now().UTC().Format(time.DateOnly)}
	if err := o.ensure(ctx, configMaps, systemMap(trackingName, since)); err != nil {
		return err
	}
	if o.Trust == nil {
		return nil
	}
	data, err := o.Trust()
	if err != nil {
		return fmt.Errorf("what this server trusts: %w", err)
	}
	if err := o.ensure(ctx, configMaps, systemMap(trustName, data)); err != nil {
		return err
	}
	_, _, _, err = o.Set.For(configMaps).Update(ctx, metav1.NamespaceSystem, trustName, "", func(current resource.Object) (resource.Object, error) {
		if c, ok := current.(*corev1.ConfigMap); ok {
			c.Data = trusted(c.Data, data)
		}
		return current, nil
	}, nil, false)
	if err != nil {
		return fmt.Errorf("publish what this server trusts: %w", err)
	}
	return nil
}

func systemMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceSystem}, Data: data}
}

// trusted adds what one server trusts to what is published: certificates beside those of others, all else in their place.
func trusted(published, mine map[string]string) map[string]string {
	out := map[string]string{}
	for key, value := range published {
		out[key] = value
	}
	for key, value := range mine {
		switch have := out[key]; {
		case !strings.HasSuffix(key, "-ca-file"):
			out[key] = value
		case !strings.Contains(have, strings.TrimSpace(value)):
			out[key] = have + value
		}
	}
	return out
}
