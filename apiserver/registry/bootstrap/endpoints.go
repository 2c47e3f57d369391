package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

// An apiserver renews its entry every renewInterval; it expires after entryTTL. Upstream's times.
const (
	renewInterval = 10 * time.Second
	entryTTL      = 15 // seconds
	leaveTimeout  = 5 * time.Second
)

// entry is the form of an entry: an Endpoints with one address. The kind is not served at this place.
var entry = resource.Define(scheme.Scheme, resource.Spec[corev1.Endpoints]{
	Names:      resource.Names{Version: "v1", Kind: "Endpoints", Plural: "masterleases"},
	StorageKey: "masterleases",
})

func (o Options) entryKey() string { return o.Store.Prefix(entry.StorageKey) + o.Advertise.String() }

// renew writes this apiserver's entry and brings the endpoints up to date.
func (o Options) renew(ctx context.Context) error {
	codec := store.NewCodec(entry, nil)
	mine := &corev1.Endpoints{Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: o.Advertise.String()}}}}}
	kv, _, err := o.Store.Get(ctx, o.entryKey())
	if err == nil {
		if was, err := codec.Decode(ctx, kv.Value, kv.Rev); err == nil {
			mine.Generation = was.Object.GetGeneration() + 1
		}
	}
	value, encodeErr := codec.Encode(mine)
	switch {
	case encodeErr != nil:
		return encodeErr
	case err == nil:
		_, err = o.Store.Update(ctx, o.entryKey(), value, kv.Rev, entryTTL)
	case errors.Is(err, store.ErrNotFound):
		_, err = o.Store.Create(ctx, o.entryKey(), value, entryTTL)
	}
	if err != nil {
		return fmt.Errorf("renew the entry of this apiserver: %w", err)
	}
	return o.publish(ctx)
}

// leave takes this apiserver's entry away and brings the endpoints up to date.
func (o Options) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	kv, _, err := o.Store.Get(ctx, o.entryKey())
	if errors.Is(err, store.ErrNotFound) || o.Advertise.IsLoopback() {
		return nil
	}
	if err == nil {
		_, err = o.Store.Delete(ctx, o.entryKey(), kv.Rev)
	}
	if err != nil {
		return fmt.Errorf("remove the entry of this apiserver: %w", err)
	}
	return o.publish(ctx)
}

// addresses are those of all entries, sorted.
func (o Options) addresses(ctx context.Context) ([]string, error) {
	page, err := o.Store.List(ctx, o.Store.Prefix(entry.StorageKey), "", 0, 0)
	if err != nil {
		return nil, err
	}
	codec := store.NewCodec(entry, nil)
	var out []string
	for _, kv := range page.KVs {
		d, err := codec.Decode(ctx, kv.Value, kv.Rev)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kv.Key, err)
		}
		e, ok := d.Object.(*corev1.Endpoints)
		if ok && len(e.Subsets) > 0 && len(e.Subsets[0].Addresses) > 0 {
			out = append(out, e.Subsets[0].Addresses[0].IP)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// publish writes the addresses into the Endpoints and the EndpointSlice of the Service.
func (o Options) publish(ctx context.Context) error {
	addresses, err := o.addresses(ctx)
	if err != nil {
		return err
	}
	err = o.set(ctx, schema.GroupResource{Resource: "endpoints"}, func(obj resource.Object) bool {
		e, ok := obj.(*corev1.Endpoints)
		return ok && o.fillEndpoints(e, addresses)
	})
	if err != nil {
		return err
	}
	return o.set(ctx, schema.GroupResource{Group: discoveryv1.GroupName, Resource: "endpointslices"}, func(obj resource.Object) bool {
		s, ok := obj.(*discoveryv1.EndpointSlice)
		return ok && o.fillSlice(s, addresses)
	})
}

// set creates or changes an object of the Service's name. A fill that changes nothing writes nothing.
func (o Options) set(ctx context.Context, gr schema.GroupResource, fill func(resource.Object) bool) error {
	r := o.Set.For(gr)
	if r == nil {
		return fmt.Errorf("%s is not served", gr)
	}
	_, _, _, err := r.Update(ctx, metav1.NamespaceDefault, serviceName, "", func(current resource.Object) (resource.Object, error) {
		if fill(current) {
			r.Kind().Default(current)
		}
		return current, nil
	}, nil, true)
	if err != nil {
		return fmt.Errorf("%s of the kubernetes service: %w", gr, err)
	}
	return nil
}

// fillEndpoints says whether it changed anything.
func (o Options) fillEndpoints(e *corev1.Endpoints, addresses []string) bool {
	want := []corev1.EndpointSubset{}
	if len(addresses) > 0 {
		subset := corev1.EndpointSubset{
			Ports: []corev1.EndpointPort{{Name: "https", Port: int32(o.Port), Protocol: corev1.ProtocolTCP}},
		}
		for _, a := range addresses {
			subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: a})
		}
		want = append(want, subset)
	}
	if equality.Semantic.DeepEqual(e.Subsets, want) && e.Labels[discoveryv1.LabelSkipMirror] == "true" {
		return false
	}
	e.Subsets = want
	setLabel(e, discoveryv1.LabelSkipMirror, "true")
	return true
}

// fillSlice says whether it changed anything.
func (o Options) fillSlice(s *discoveryv1.EndpointSlice, addresses []string) bool {
	ready, name, port, protocol := true, "https", int32(o.Port), corev1.ProtocolTCP
	want := []discoveryv1.Endpoint{}
	for _, a := range addresses {
		want = append(want, discoveryv1.Endpoint{
			Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		})
	}
	ports := []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}}
	if equality.Semantic.DeepEqual(s.Endpoints, want) && equality.Semantic.DeepEqual(s.Ports, ports) &&
		s.Labels[discoveryv1.LabelServiceName] == serviceName {
		return false
	}
	if s.AddressType == "" {
		s.AddressType = discoveryv1.AddressTypeIPv4
		if o.Advertise.Is6() {
			s.AddressType = discoveryv1.AddressTypeIPv6
		}
	}
	s.Endpoints, s.Ports = want, ports
	setLabel(s, discoveryv1.LabelServiceName, serviceName)
	return true
}

func setLabel(obj resource.Object, key, value string) {
	labels := obj.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[key] = value
	obj.SetLabels(labels)
}
