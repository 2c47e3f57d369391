package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"hardway/apiserver/kinds/apiregistration"
	"hardway/apiserver/kinds/flowcontrol"
	"hardway/apiserver/kinds/scheduling"
	"hardway/apiserver/registry"
	"hardway/apiserver/resource"
	"hardway/apiserver/store"
)

// namespaces are the ones that every cluster has.
var namespaces = []string{
	metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease,
}

// serviceName names the Service, its endpoints, and the default service range.
const serviceName = "kubernetes"

// servicePort is the port of the Service.
const servicePort = 443

// Options of a Bootstrap.
type Options struct {
	Set   *registry.Set
	Store *store.Store
	// CIDRs are the service ranges, Address the first usable address of the first: the Service's.
	CIDRs   []netip.Prefix
	Address netip.Addr
	// Advertise and Port are where other machines reach this apiserver.
	Advertise netip.Addr
	Port      int
	// Versions are the served ones, each of which gets an APIService.
	Versions []schema.GroupVersion
	// Trust says whose certificates this server trusts, as the keys of a ConfigMap; nil: nobody is told.
	Trust func() (map[string]string, error)
	Log   *zap.Logger
}

// retryInterval is the time between attempts while something fails.
const retryInterval = 500 * time.Millisecond

// Once makes what is missing of namespaces, priority classes and levels, service range and Service.
func Once(ctx context.Context, o Options) error {
	for _, name := range namespaces {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := o.ensure(ctx, schema.GroupResource{Resource: "namespaces"}, ns); err != nil {
			return err
		}
	}
	for _, class := range scheduling.SystemClasses() {
		if err := o.ensure(ctx, scheduling.PriorityClass.GroupResource(), class); err != nil {
			return err
		}
	}
	for _, obj := range flowcontrol.Objects() {
		kind := flowcontrol.FlowSchema
		if _, level := obj.(*flowcontrolv1.PriorityLevelConfiguration); level {
			kind = flowcontrol.PriorityLevelConfiguration
		}
		if err := o.ensure(ctx, kind.GroupResource(), obj); err != nil {
			return err
		}
	}
	if err := o.announce(ctx); err != nil {
		return err
	}
	if err := o.serviceRange(ctx); err != nil {
		return err
	}
	return o.ensure(ctx, schema.GroupResource{Resource: "services"}, o.service())
}

// Bootstrap makes the first objects and keeps this apiserver among the endpoints.
type Bootstrap struct {
	o    Options
	done chan struct{}
}

// New prepares; nothing runs yet.
func New(o Options) *Bootstrap {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Bootstrap{o: o, done: make(chan struct{})}
}

// Check is a readiness check: nil once the first objects are there.
func (b *Bootstrap) Check(context.Context) error {
	select {
	case <-b.done:
		return nil
	default:
		return errors.New("the cluster's first objects are not made yet")
	}
}

// Run makes what is missing and keeps this apiserver among the endpoints until ctx ends, when it takes it away: it must
// end before etcd does. Failures are logged and tried again.
func (b *Bootstrap) Run(ctx context.Context) error {
	if b.o.Set.WaitForSync(ctx) != nil {
		return nil //nolint:nilerr // told to stop before anything could be read
	}
	for {
		interval := renewInterval
		err := b.round(ctx)
		if err != nil {
			interval = retryInterval
			if ctx.Err() == nil {
				b.o.Log.Warn("the cluster's first objects are not complete, trying again", zap.Error(err))
			}
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			if err := b.o.leave(context.WithoutCancel(ctx)); err != nil {
				b.o.Log.Warn("this apiserver stays among the endpoints until its entry expires", zap.Error(err))
			}
			return nil
		}
	}
}

func (b *Bootstrap) round(ctx context.Context) error {
	if err := Once(ctx, b.o); err != nil {
		return err
	}
	if b.Check(ctx) != nil {
		close(b.done)
		for _, gv := range b.o.Versions {
			if err := b.o.ensure(ctx, apiregistration.APIService.GroupResource(), apiregistration.Local(gv)); err != nil {
				b.o.Log.Warn("a served version has no APIService", zap.Stringer("version", gv), zap.Error(err))
			}
		}
	}
	if b.o.Advertise.IsLoopback() {
		return nil // nobody but this machine could use it, and endpoints with it are refused
	}
	return b.o.renew(ctx)
}

// ensure creates an object unless it is there.
func (o Options) ensure(ctx context.Context, gr schema.GroupResource, obj resource.Object) error {
	r := o.Set.For(gr)
	if r == nil {
		return fmt.Errorf("%s is not served", gr)
	}
	if _, err := r.Find(ctx, obj.GetNamespace(), obj.GetName()); !apierrors.IsNotFound(err) {
		return err
	}
	r.Kind().Default(obj)
	if _, _, err := r.Create(ctx, obj, nil); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create %s %s: %w", gr, obj.GetName(), err)
	}
	return nil
}

func (o Options) service() *corev1.Service {
	single := corev1.IPFamilyPolicySingleStack
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: serviceName, Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{"provider": "kubernetes", "component": "apiserver"},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: o.Address.String(), IPFamilyPolicy: &single,
			SessionAffinity: corev1.ServiceAffinityNone,
			Ports: []corev1.ServicePort{{
				Name: "https", Protocol: corev1.ProtocolTCP, Port: servicePort, TargetPort: intstr.FromInt(o.Port),
			}},
		},
	}
}

// serviceRange shows the ranges as an object, ready from the start.
func (o Options) serviceRange(ctx context.Context) error {
	gr := schema.GroupResource{Group: networkingv1.GroupName, Resource: "servicecidrs"}
	obj := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: serviceName}}
	for _, p := range o.CIDRs {
		obj.Spec.CIDRs = append(obj.Spec.CIDRs, p.Masked().String())
	}
	if err := o.ensure(ctx, gr, obj); err != nil {
		return err
	}
	_, _, _, err := o.Set.For(gr).Update(ctx, "", serviceName, "status", func(current resource.Object) (resource.Object, error) {
		c, ok := current.(*networkingv1.ServiceCIDR)
		if ok && len(c.Status.Conditions) == 0 {
			c.Status.Conditions = []metav1.Condition{{
				Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue,
				Message: "Kubernetes default Service CIDR is ready", LastTransitionTime: metav1.Now(),
			}}
		}
		return current, nil
	}, nil, false)
	if err != nil {
		return fmt.Errorf("status of service range: %w", err)
	}
	return nil
}
