// Package binder gives claims their volumes, and volumes back.
//
// Reads claims, volumes, storage classes, nodes and pods; writes claims and volumes with their status, and pods that
// empty volumes which are to be used again or deleted. A claim gets the volume that it names, that is reserved for it,
// the smallest that fits, or a new one: a folder of the node that the scheduler chose when its class asks for that
// (local.go), else whatever an external provisioner makes. Every step can be the last one; the next run goes on there.
package binder

import (
	"context"
	"fmt"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// What the volume controllers, the scheduler and provisioners tell each other.
const (
	bindCompleted     = "pv.kubernetes.io/bind-completed"
	boundByController = "pv.kubernetes.io/bound-by-controller"
	provisionedBy     = "pv.kubernetes.io/provisioned-by"
	selectedNode      = "volume.kubernetes.io/selected-node"
	storedBy          = "volume.kubernetes.io/storage-provisioner"
	storedByBeta      = "volume.beta.kubernetes.io/storage-provisioner"
	noProvisioner     = "kubernetes.io/no-provisioner"
)

// Controller binds all claims. Keys without a namespace are volumes.
type Controller struct {
	env     control.Env
	log     *zap.Logger
	claims  control.Claims
	volumes control.Volumes
	classes *client.Informer[storagev1.StorageClass]
	nodes   *client.Informer[corev1.Node]
	pods    control.Pods
	queue   *control.Queue
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{
		env: env, log: env.Log.Named("binder"), claims: env.Claims(), volumes: env.Volumes(), nodes: env.Nodes(), pods: env.Pods(),
		classes: client.StorageClasses.Informer(env.Informers, client.Options{}),
	}
	c.queue = env.Queue("persistentvolume_binder", 4, c.reconcile)
	c.claims.OnChange(c.claimChanged)
	c.volumes.OnChange(c.volumeChanged)
	c.classes.OnChange(func(_, now *storagev1.StorageClass) {
		if now != nil {
			c.lookAtWaiting(now.Name)
		}
	})
	c.pods.OnChange(func(old, now *corev1.Pod) {
		if now == nil {
			now = old
		}
		if name := now.Annotations[forVolume]; name != "" && now.Namespace == scrubNamespace {
			c.queue.Add(reconcile.Key{Name: name})
		}
	})
	return c, nil
}

func (c *Controller) claimChanged(old, now *corev1.PersistentVolumeClaim) {
	if now != nil {
		c.queue.Add(reconcile.KeyOf(now))
		old = now
	}
	for _, v := range c.volumes.Naming(reconcile.KeyOf(old)) {
		c.queue.Add(reconcile.KeyOf(v))
	}
}

func (c *Controller) volumeChanged(old, now *corev1.PersistentVolume) {
	for _, v := range []*corev1.PersistentVolume{old, now} {
		if v != nil && v.Spec.ClaimRef != nil {
			c.queue.Add(reconcile.Key{Namespace: v.Spec.ClaimRef.Namespace, Name: v.Spec.ClaimRef.Name})
		}
	}
	if now == nil {
		return
	}
	c.queue.Add(reconcile.KeyOf(now))
	if now.Spec.ClaimRef == nil && now.Status.Phase == corev1.VolumeAvailable {
		c.lookAtWaiting(classOfVolume(now))
	}
}

// lookAtWaiting looks at the claims of a class that have no volume.
func (c *Controller) lookAtWaiting(class string) {
	for _, claim := range c.claims.Waiting(class) {
		c.queue.Add(reconcile.KeyOf(claim))
	}
}

// Run binds until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() {
		control.Keys(c.queue, c.volumes.All())
		control.Keys(c.queue, c.claims.All())
	})
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	if key.Namespace == "" {
		if v, ok := c.volumes.Get("", key.Name); ok {
			return c.reconcileVolume(ctx, v)
		}
		return reconcile.Result{}, nil
	}
	claim, ok := c.claims.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	f := claimFacts{claim: claim, reserved: c.volumes.Naming(key)}
	f.class, _ = c.classes.Get("", classOf(claim))
	if claim.Spec.VolumeName != "" {
		f.named, _ = c.volumes.Get("", claim.Spec.VolumeName)
	} else {
		f.free = c.volumes.OfClass(classOf(claim))
		f.pod = c.unscheduled(key)
	}
	return reconcile.Result{}, c.apply(ctx, f, planClaim(f))
}

// unscheduled is a pod that waits for the claim.
func (c *Controller) unscheduled(key reconcile.Key) string {
	for _, pod := range c.pods.Using(key) {
		if pod.Spec.NodeName == "" {
			return pod.Name
		}
	}
	return ""
}

func (c *Controller) apply(ctx context.Context, f claimFacts, p claimPlan) error {
	switch {
	case p.bind != nil:
		return c.bind(ctx, p.bind, f.claim)
	case p.provision:
		return c.provision(ctx, f.claim, f.class)
	case p.lost:
		if f.claim.Status.Phase == corev1.ClaimLost {
			return nil
		}
		if f.claim.Spec.VolumeName != "" { // the server's word for it: the cache may be behind
			if _, err := client.PersistentVolumes.Get(ctx, c.env.API, "", f.claim.Spec.VolumeName); control.Gone(err) != nil || (err == nil && f.named == nil) {
				return err
			}
		}
		c.env.Events.Event(f.claim, corev1.EventTypeWarning, p.reason, "%s", p.message)
		status := f.claim.Status.DeepCopy()
		status.Phase, status.AccessModes, status.Capacity = corev1.ClaimLost, nil, nil
		return c.setClaimStatus(ctx, f.claim, *status)
	case p.reason != "":
		kind := corev1.EventTypeNormal
		if p.reason == "VolumeMismatch" || p.reason == "ProvisioningFailed" {
			kind = corev1.EventTypeWarning
		}
		c.env.Events.Event(f.claim, kind, p.reason, "%s", p.message)
	}
	return nil
}

// provision makes a folder of a node, or says to an external provisioner that its volume is wanted.
func (c *Controller) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	if claim.Annotations[storedBy] != class.Provisioner {
		out := claim.DeepCopy()
		metav1.SetMetaDataAnnotation(&out.ObjectMeta, storedBy, class.Provisioner)
		metav1.SetMetaDataAnnotation(&out.ObjectMeta, storedByBeta, class.Provisioner)
		name := out.Name
		var err error
		if claim, err = client.PersistentVolumeClaims.Update(ctx, c.env.API, out); err != nil {
			return fmt.Errorf("name the provisioner of claim %s: %w", name, err)
		}
	}
	if class.Provisioner != Provisioner {
		c.env.Events.Event(claim, corev1.EventTypeNormal, "ExternalProvisioning", "Waiting for a volume to be created either by the external provisioner '%s' "+
			"or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.", class.Provisioner)
		return nil
	}
	at := claim.Annotations[selectedNode]
	if at == "" {
		c.env.Events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed",
			"storage class %s must have volumeBindingMode WaitForFirstConsumer: a folder of a node is made where the pod goes", class.Name)
		return nil
	}
	node, ok := c.nodes.Get("", at)
	if !ok {
		return c.unselect(ctx, claim, at)
	}
	v, err := localVolume(claim, class, node)
	if err != nil {
		c.env.Events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %v", class.Name, err)
		return reconcile.Terminal(fmt.Errorf("make a volume for claim %s/%s: %w", claim.Namespace, claim.Name, err))
	}
	if _, err = client.PersistentVolumes.Create(ctx, c.env.API, v); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make volume %s for claim %s/%s: %w", v.Name, claim.Namespace, claim.Name, err)
	}
	if err == nil {
		c.env.Events.Event(claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume %s using %s", v.Name, Provisioner)
	}
	return nil // the new volume brings the claim back
}

// unselect lets the scheduler choose again when the chosen node is gone.
func (c *Controller) unselect(ctx context.Context, claim *corev1.PersistentVolumeClaim, node string) error {
	if _, err := client.Nodes.Get(ctx, c.env.API, "", node); !apierrors.IsNotFound(err) {
		return err
	}
	c.env.Events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", "node %s is gone, another one must be chosen", node)
	out := claim.DeepCopy()
	delete(out.Annotations, selectedNode)
	if _, err := client.PersistentVolumeClaims.Update(ctx, c.env.API, out); err != nil {
		return fmt.Errorf("take the choice of node %s off claim %s/%s: %w", node, claim.Namespace, claim.Name, err)
	}
	return nil
}
