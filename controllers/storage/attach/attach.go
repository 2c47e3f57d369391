// Package attach has CSI volumes attached to the nodes whose pods use them, and detached when none does any more.
//
// Reads pods, claims, volumes, nodes, CSIDrivers and VolumeAttachments; writes VolumeAttachments, which the driver's attacher acts
// on, and status.volumesAttached of nodes, which kubelets wait for. A volume that only one node may have is not asked for a second
// one before the first has given it up. A node keeps a volume as long as it says that it uses it, unless the node is gone, has the
// taint out-of-service, or has been silent for six minutes. Nothing is remembered but since when a volume is not wanted any more,
// and after a restart that begins anew.
package attach

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/controllers/control"
	"hardway/controllers/podstate"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// Names of indexes of VolumeAttachments.
const (
	byNode   = "node"
	byVolume = "volume"
)

// Controller attaches and detaches. Its keys are a node and a volume: {Namespace: node, Name: volume}.
type Controller struct {
	env     control.Env
	log     *zap.Logger
	pods    control.Pods
	claims  control.Claims
	volumes control.Volumes
	nodes   *client.Informer[corev1.Node]
	drivers *client.Informer[storagev1.CSIDriver]
	here    *client.Informer[storagev1.VolumeAttachment]
	queue   *control.Queue

	mu       sync.Mutex // guards unwanted
	unwanted map[reconcile.Key]time.Time
}

// New makes the controller and has its caches filled.
func New(env control.Env) (control.Runner, error) {
	c := &Controller{
		env: env, log: env.Log.Named("attach"), pods: env.Pods(), claims: env.Claims(), volumes: env.Volumes(), nodes: env.Nodes(),
		drivers: client.CSIDrivers.Informer(env.Informers, client.Options{}), unwanted: map[reconcile.Key]time.Time{},
		here: client.VolumeAttachments.Informer(env.Informers, client.Options{Indexes: map[string]func(any) []string{
			byNode: func(obj any) []string { return []string{obj.(*storagev1.VolumeAttachment).Spec.NodeName} },
			byVolume: func(obj any) []string {
				if name := volumeOf(obj.(*storagev1.VolumeAttachment)); name != "" {
					return []string{name}
				}
				return nil
			},
		}}),
	}
	c.queue = env.Queue("attach_detach", 8, c.reconcile)
	c.follow()
	return c, nil
}

// follow has every change wake those pairs of node and volume that it concerns.
func (c *Controller) follow() {
	c.pods.OnChange(func(old, now *corev1.Pod) {
		if now == nil {
			now = old
		}
		c.wakePod(now)
	})
	c.claims.OnChange(func(old, now *corev1.PersistentVolumeClaim) {
		if now != nil && (old == nil || old.Spec.VolumeName != now.Spec.VolumeName || old.Status.Phase != now.Status.Phase) {
			c.wakeClaim(reconcile.KeyOf(now))
		}
	})
	c.volumes.OnChange(func(old, now *corev1.PersistentVolume) {
		if now == nil {
			now = old
		}
		if now.Spec.CSI != nil {
			c.wakeVolume(now.Name, now)
		}
	})
	c.here.OnChange(func(old, now *storagev1.VolumeAttachment) {
		if now == nil {
			now = old
		}
		v, _ := c.volumes.Get("", volumeOf(now))
		c.wakeVolume(volumeOf(now), v) // also those who wait for this node to give it up
	})
	c.nodes.OnChange(func(old, now *corev1.Node) {
		if old == nil {
			for _, pod := range c.pods.OnNode(now.Name) {
				c.wakePod(pod)
			}
			return
		}
		if now == nil || !reflect.DeepEqual(old.Status.VolumesInUse, now.Status.VolumesInUse) || outOfService(old) != outOfService(now) || healthy(old) != healthy(now) {
			c.wakeNode(old.Name)
		}
	})
	c.drivers.OnChange(func(_, now *storagev1.CSIDriver) {
		for v := range c.volumes.All() {
			if now != nil && v.Spec.CSI != nil && v.Spec.CSI.Driver == now.Name {
				c.wakeVolume(v.Name, v)
			}
		}
	})
}

// volumeOf is the volume that a controller like this one attached: empty for what other people attach, whose it stays.
func volumeOf(a *storagev1.VolumeAttachment) string {
	if a.Spec.Source.PersistentVolumeName == nil || !named(a.Name) {
		return ""
	}
	return *a.Spec.Source.PersistentVolumeName
}

func (c *Controller) wakePod(pod *corev1.Pod) {
	if pod.Spec.NodeName == "" {
		return
	}
	for _, v := range pod.Spec.Volumes {
		name := ""
		switch {
		case v.PersistentVolumeClaim != nil:
			name = v.PersistentVolumeClaim.ClaimName
		case v.Ephemeral != nil:
			name = pod.Name + "-" + v.Name
		default:
			continue
		}
		claim, ok := c.claims.Get(pod.Namespace, name)
		if !ok || claim.Spec.VolumeName == "" {
			continue
		}
		if pv, ok := c.volumes.Get("", claim.Spec.VolumeName); ok && pv.Spec.CSI != nil {
			c.queue.Add(reconcile.Key{Namespace: pod.Spec.NodeName, Name: pv.Name})
		}
	}
}

func (c *Controller) wakeClaim(claim reconcile.Key) {
	for _, pod := range c.pods.Using(claim) {
		c.wakePod(pod)
	}
}

func (c *Controller) wakeVolume(name string, v *corev1.PersistentVolume) {
	for _, a := range c.here.ByIndex(byVolume, name) {
		c.queue.Add(reconcile.Key{Namespace: a.Spec.NodeName, Name: name})
	}
	if v != nil && v.Spec.ClaimRef != nil {
		c.wakeClaim(reconcile.Key{Namespace: v.Spec.ClaimRef.Namespace, Name: v.Spec.ClaimRef.Name})
	}
}

func (c *Controller) wakeNode(name string) {
	for _, a := range c.here.ByIndex(byNode, name) {
		if v := volumeOf(a); v != "" {
			c.queue.Add(reconcile.Key{Namespace: name, Name: v})
		}
	}
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() {
		for a := range c.here.All() {
			if v := volumeOf(a); v != "" {
				c.queue.Add(reconcile.Key{Namespace: a.Spec.NodeName, Name: v})
			}
		}
		for pod := range c.pods.All() {
			c.wakePod(pod)
		}
	})
}

func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	f := c.gather(key)
	switch plan(f) {
	case attach:
		return reconcile.Result{}, c.attach(ctx, f)
	case refuse:
		c.refuse(f)
	case failed:
		for _, pod := range f.pods {
			c.env.Events.Event(pod, corev1.EventTypeWarning, "FailedAttachVolume", "AttachVolume.Attach failed for volume %q : %s", f.volume.Name, f.here.Status.AttachError.Message)
		}
	case detach:
		return reconcile.Result{}, c.detach(ctx, f)
	case waitForNode:
		if f.force && f.since < patience {
			return reconcile.Result{RequeueAfter: patience - f.since}, nil
		}
	}
	if f.node == nil {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, c.report(ctx, f.node, "")
}

// gather collects the facts about a volume on a node.
func (c *Controller) gather(key reconcile.Key) facts {
	f := facts{force: !c.env.Config.KeepAttached}
	f.node, _ = c.nodes.Get("", key.Namespace)
	f.volume, _ = c.volumes.Get("", key.Name)
	for _, a := range c.here.ByIndex(byVolume, key.Name) {
		if a.Spec.NodeName == key.Namespace {
			f.here = a
		} else {
			f.others = append(f.others, a)
		}
	}
	if f.volume != nil && f.volume.Spec.CSI != nil {
		f.driver, _ = c.drivers.Get("", f.volume.Spec.CSI.Driver)
		f.pods = c.users(f.volume, key.Namespace)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(f.pods) > 0 || f.here == nil {
		delete(c.unwanted, key)
		return f
	}
	if _, known := c.unwanted[key]; !known {
		c.unwanted[key] = time.Now()
	}
	f.since = time.Since(c.unwanted[key])
	return f
}

// users are the pods of a node that need the volume: they have not ended, and their claim is the volume's.
func (c *Controller) users(v *corev1.PersistentVolume, node string) []*corev1.Pod {
	ref := v.Spec.ClaimRef
	if ref == nil {
		return nil
	}
	claim, ok := c.claims.Get(ref.Namespace, ref.Name)
	if !ok || claim.UID != ref.UID || claim.Spec.VolumeName != v.Name {
		return nil
	}
	return slices.DeleteFunc(c.pods.Using(reconcile.KeyOf(claim)), func(p *corev1.Pod) bool { return p.Spec.NodeName != node || podstate.Terminal(p) })
}

func (c *Controller) attach(ctx context.Context, f facts) error {
	_, err := client.VolumeAttachments.Create(ctx, c.env.API, attachment(f.volume, f.node.Name))
	if err != nil && !apierrors.IsAlreadyExists(err) { // it is there: news of it is on the way
		return fmt.Errorf("ask for volume %s on node %s: %w", f.volume.Name, f.node.Name, err)
	}
	c.log.Info("asked for volume", zap.String("volume", f.volume.Name), zap.String("node", f.node.Name))
	return nil
}

func (c *Controller) refuse(f facts) {
	why := "Volume is already exclusively attached to one node and can't be attached to another"
	var pods []string
	for _, a := range f.others {
		for _, p := range c.users(f.volume, a.Spec.NodeName) {
			pods = append(pods, p.Name)
		}
	}
	if len(pods) > 0 {
		slices.Sort(pods)
		why = "Volume is already used by pod(s) " + strings.Join(pods, ", ")
	}
	for _, pod := range f.pods {
		c.env.Events.Event(pod, corev1.EventTypeWarning, "FailedAttachVolume", "Multi-Attach error for volume %q %s", f.volume.Name, why)
	}
}

// detach first tells the node that it has lost the volume, so that nothing mounts it meanwhile.
func (c *Controller) detach(ctx context.Context, f facts) error {
	if f.node != nil {
		if err := c.report(ctx, f.node, f.here.Name); err != nil {
			return err
		}
	}
	err := client.VolumeAttachments.Delete(ctx, c.env.API, "", f.here.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &f.here.UID}})
	if control.Gone(err) != nil {
		return fmt.Errorf("detach volume %s from node %s: %w", volumeOf(f.here), f.here.Spec.NodeName, err)
	}
	c.log.Info("gave volume up", zap.String("volume", volumeOf(f.here)), zap.String("node", f.here.Spec.NodeName), zap.Duration("unwanted", f.since))
	return nil
}

// report writes into a node's status what is attached to it, without one that is about to be detached.
func (c *Controller) report(ctx context.Context, node *corev1.Node, without string) error {
	attached := []corev1.AttachedVolume{}
	for _, a := range c.here.ByIndex(byNode, node.Name) {
		v, ok := c.volumes.Get("", volumeOf(a))
		if ok && v.Spec.CSI != nil && a.Status.Attached && a.DeletionTimestamp == nil && a.Name != without {
			attached = append(attached, corev1.AttachedVolume{Name: nameOf(v)})
		}
	}
	slices.SortFunc(attached, func(a, b corev1.AttachedVolume) int { return strings.Compare(string(a.Name), string(b.Name)) })
	if slices.Equal(attached, node.Status.VolumesAttached) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": node.UID, "resourceVersion": node.ResourceVersion}, "status": map[string]any{"volumesAttached": attached},
	})
	if err != nil {
		return fmt.Errorf("encode the volumes of node %s: %w", node.Name, err)
	}
	if _, err := client.Nodes.Patch(ctx, c.env.API, "", node.Name, types.MergePatchType, patch, "status"); control.Gone(err) != nil {
		return fmt.Errorf("write the volumes of node %s: %w", node.Name, err)
	}
	c.tell(node, attached)
	return nil
}

// tell has an Event for the pods of a node whose volumes have just been attached.
func (c *Controller) tell(node *corev1.Node, attached []corev1.AttachedVolume) {
	for _, a := range c.here.ByIndex(byNode, node.Name) {
		v, ok := c.volumes.Get("", volumeOf(a))
		if !ok || v.Spec.CSI == nil {
			continue
		}
		is := corev1.AttachedVolume{Name: nameOf(v)}
		if !slices.Contains(attached, is) || slices.Contains(node.Status.VolumesAttached, is) {
			continue
		}
		for _, pod := range c.users(v, node.Name) {
			c.env.Events.Event(pod, corev1.EventTypeNormal, "SuccessfulAttachVolume", "AttachVolume.Attach succeeded for volume %q ", v.Name)
		}
	}
}
