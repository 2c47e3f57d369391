package csi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/volume"
)

// API is what is read and written elsewhere for a volume.
type API interface {
	Driver(ctx context.Context, name string) (*storagev1.CSIDriver, error)
	Attachment(ctx context.Context, name string) (*storagev1.VolumeAttachment, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	Token(ctx context.Context, pod *corev1.Pod, audience string, seconds *int64) (string, time.Time, error)
	PatchClaimStatus(ctx context.Context, namespace, name string, merge []byte) error
	// InUse says whether the Node in the API names the volume among those in use. UseChanged has that brought up to date.
	InUse(name corev1.UniqueVolumeName) bool
	UseChanged()
	Note(pod *corev1.Pod, eventtype, reason, format string, args ...any)
}

// Options are what the volume type works with.
type Options struct {
	Root    string // such as /var/lib/kubelet
	Node    string // its name
	Boot    string // identifies the time since the machine was started
	Drivers *Drivers
	API     API
	Log     *zap.Logger
}

// Type is the csi volume type.
type Type struct {
	Options
	ledger *ledger
	locks  keyed // by driver and handle: one thing at a time happens to a volume
	stats  statsCache
}

// New reads what there is of volumes on the node.
func New(o Options) *Type {
	l, err := openLedger(o.Root)
	if err != nil {
		o.Log.Error("some volumes of pods are not known any more", zap.Error(err))
	}
	return &Type{Options: o, ledger: l}
}

// Name implements volume.Type.
func (t *Type) Name() string { return folder }

// Handles implements volume.Type.
func (t *Type) Handles(r volume.Request) bool {
	return r.PV != nil && r.PV.Spec.CSI != nil || r.PV == nil && r.Volume.CSI != nil
}

// InUse names the volumes that the cluster must leave attached to this node.
func (t *Type) InUse() []corev1.UniqueVolumeName { return t.ledger.inUse() }

// target is where a volume is published for a pod.
func target(dir string, block bool) string {
	if block {
		return filepath.Join(dir, "device")
	}
	return filepath.Join(dir, "mount")
}

// stageDir is where a volume is staged for all pods of the node: upstream's place.
func (t *Type) stageDir(driver, handle string) string {
	sum := sha256.Sum256([]byte(handle))
	return filepath.Join(t.Root, "plugins", "kubernetes.io", "csi", driver, hex.EncodeToString(sum[:]))
}

const staging = "globalmount"

// SetUp implements volume.Type.
func (t *Type) SetUp(ctx context.Context, r volume.Request) (string, error) {
	w := newWish(r)
	var err error
	if w.about, err = t.about(ctx, w.driver); err != nil {
		return "", err
	}
	release, err := t.locks.lock(ctx, w.driver+"/"+w.handle)
	if err != nil {
		return "", err
	}
	defer release()
	rec, _, err := t.ledger.get(r.Dir)
	if err != nil {
		return "", err
	}
	// Differs from upstream: what has been published is not published again by an agent that was started anew.
	path, published := target(r.Dir, w.block), rec.same(w.driver, w.handle) && rec.Boot == t.Boot
	if published && !w.republished() {
		t.grow(ctx, r, w)
		return path, nil
	}
	d, err := t.Drivers.get(w.driver)
	if err != nil {
		return "", err
	}
	if err := t.bring(ctx, d, r, w, published); err != nil {
		return "", err
	}
	t.grow(ctx, r, w)
	return path, nil
}

// about is what the driver says of itself in the API, nil if nothing.
func (t *Type) about(ctx context.Context, name string) (*storagev1.CSIDriver, error) {
	about, err := t.API.Driver(ctx, name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("CSIDriver %s: %w", name, err)
	}
	return about, nil
}

// bring does all that makes the volume usable, or, once it has been, tells the driver anew what it wants to hear.
func (t *Type) bring(ctx context.Context, d *driver, r volume.Request, w wish, published bool) error {
	if err := w.allowed(); err != nil {
		return err
	}
	if others := t.ledger.users(w.driver, w.handle, r.Dir); len(others) > 0 && w.exclusive() {
		return fmt.Errorf("volume %s uses the ReadWriteOncePod access mode and is already in use by another pod on this node", w.name)
	}
	rec := record{
		Name: w.name, Volume: r.Volume.Name, Handle: w.handle, Driver: w.driver, Node: t.Node, Lifecycle: string(w.lifecycle),
		AttachmentID: AttachmentName(w.handle, w.driver, t.Node),
	}
	if w.attachable() {
		rec.Attachable = "true"
	}
	if w.block {
		rec.Block = "true"
	}
	if published {
		rec.Boot = t.Boot
	}
	if err := t.ledger.put(r.Dir, rec); err != nil {
		return err
	}
	attachment, err := t.attached(ctx, w)
	if err != nil {
		return err
	}
	staged, err := t.stage(ctx, d, r, w, attachment)
	if err != nil {
		return err
	}
	if err := t.publish(ctx, d, r, w, attachment, staged); err != nil {
		return err
	}
	if !published && w.owned(r.FSGroup()) && !d.can[csi.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP] {
		if err := volume.Own(target(r.Dir, false), *r.FSGroup(), false, r.OnRootMismatch()); err != nil {
			return fmt.Errorf("give volume %s to group %d: %w", w.name, *r.FSGroup(), err)
		}
	}
	rec.Boot = t.Boot
	return t.ledger.put(r.Dir, rec)
}

// stage makes the volume known to the node, once for all its pods. It returns where, "" if the driver does not want that.
func (t *Type) stage(ctx context.Context, d *driver, r volume.Request, w wish, attachment map[string]string) (string, error) {
	if !d.stages() || w.lifecycle == storagev1.VolumeLifecycleEphemeral {
		return "", nil
	}
	dir := t.stageDir(w.driver, w.handle)
	at := filepath.Join(dir, staging)
	if rec, err := readRecord(dir); err == nil && rec.Boot == t.Boot {
		return at, nil
	}
	secrets, err := t.secrets(ctx, w.stageSecret)
	if err != nil {
		return "", err
	}
	rec := record{Handle: w.handle, Driver: w.driver}
	if err := writeRecord(dir, rec); err != nil {
		return "", err
	}
	if err := os.MkdirAll(at, 0o750); err != nil {
		return "", err
	}
	ctx, cancel := withLimit(ctx)
	defer cancel()
	_, err = d.node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
		VolumeId: w.handle, PublishContext: attachment, StagingTargetPath: at, VolumeCapability: w.capability(d, r.FSGroup()),
		Secrets: secrets, VolumeContext: w.attributes,
	})
	if err != nil {
		return "", fmt.Errorf("driver %s stages volume %s: %w", w.driver, w.name, err)
	}
	rec.Boot = t.Boot
	return at, writeRecord(dir, rec)
}

// publish makes the volume appear in the pod's folder.
func (t *Type) publish(ctx context.Context, d *driver, r volume.Request, w wish, attachment map[string]string, staged string) error {
	secrets, err := t.secrets(ctx, w.publishSecret)
	if err != nil {
		return err
	}
	tokens, err := t.tokens(ctx, r.Pod, w.tokenRequests())
	if err != nil {
		return err
	}
	attributes := merge(w.attributes, w.podInfo(r.Pod))
	if w.tokensAreSecret() {
		secrets = merge(secrets, tokens)
	} else {
		attributes = merge(attributes, tokens)
	}
	ctx, cancel := withLimit(ctx)
	defer cancel()
	_, err = d.node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: w.handle, PublishContext: attachment, StagingTargetPath: staged, TargetPath: target(r.Dir, w.block),
		VolumeCapability: w.capability(d, r.FSGroup()), Readonly: w.readOnly, Secrets: secrets, VolumeContext: attributes,
	})
	if err != nil {
		return fmt.Errorf("driver %s publishes volume %s: %w", w.driver, w.name, err)
	}
	return nil
}

// withLimit bounds one call to a driver.
func withLimit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callLimit)
}

// secrets reads what the driver is to be told in confidence.
func (t *Type) secrets(ctx context.Context, ref *corev1.SecretReference) (map[string]string, error) {
	if ref == nil {
		return nil, nil
	}
	s, err := t.API.Secret(ctx, ref.Namespace, ref.Name)
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s of the volume: %w", ref.Namespace, ref.Name, err)
	}
	out := map[string]string{}
	for k, v := range s.Data {
		out[k] = string(v)
	}
	return out, nil
}

// tokens gets the tokens of the pod's service account that the driver asks for.
func (t *Type) tokens(ctx context.Context, pod *corev1.Pod, wanted []storagev1.TokenRequest) (map[string]string, error) {
	all := map[string]issued{}
	for _, ask := range wanted {
		token, expires, err := t.API.Token(ctx, pod, ask.Audience, ask.ExpirationSeconds)
		if err != nil {
			return nil, err
		}
		all[ask.Audience] = issued{token, expires}
	}
	return tokenAttribute(all)
}

// attached waits until the cluster has attached the volume to this node, and returns what the driver's controller has to
// say to its node. Before that the Node must say in the API that it uses the volume: then nobody takes it away again.
func (t *Type) attached(ctx context.Context, w wish) (map[string]string, error) {
	if !w.attachable() {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	id, problem := AttachmentName(w.handle, w.driver, t.Node), ""
	told := false
	for wait := 50 * time.Millisecond; ; wait = min(wait*3/2, 2*time.Second) {
		if !t.API.InUse(uniqueName(w.driver, w.handle)) {
			if problem = "the Node does not say yet that it uses the volume"; !told {
				t.API.UseChanged()
				told = true
			}
		} else {
			a, err := t.API.Attachment(ctx, id)
			switch {
			case apierrors.IsNotFound(err) || apierrors.IsForbidden(err):
				problem = "there is no VolumeAttachment " + id + " yet"
			case err != nil:
				return nil, fmt.Errorf("VolumeAttachment %s: %w", id, err)
			case a.DeletionTimestamp != nil:
				problem = "VolumeAttachment " + id + " is being deleted"
			case a.Status.Attached:
				return a.Status.AttachmentMetadata, nil
			case a.Status.AttachError != nil:
				problem = "it cannot be attached: " + a.Status.AttachError.Message
			default:
				problem = "VolumeAttachment " + id + " is not attached yet"
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for volume %s to be attached to this node: %s", w.name, problem)
		case <-time.After(wait):
		}
	}
}

// TearDown implements volume.Ender. It undoes what SetUp did, as far as that came.
//
// Differs from upstream: a pod is not done with its volume before the last use of it on the node is unstaged.
func (t *Type) TearDown(ctx context.Context, _ types.UID, dir string) error {
	rec, ok, err := t.ledger.get(dir)
	if err != nil || !ok {
		return err
	}
	release, err := t.locks.lock(ctx, rec.Driver+"/"+rec.Handle)
	if err != nil {
		return err
	}
	defer release()
	d, err := t.Drivers.get(rec.Driver)
	if err != nil {
		return err
	}
	at := target(dir, rec.Block == "true")
	rec.Boot = "" // from here on it is as good as not published
	if err := t.ledger.put(dir, rec); err != nil {
		return err
	}
	calling, cancel := withLimit(ctx)
	defer cancel()
	if _, err := d.node.NodeUnpublishVolume(calling, &csi.NodeUnpublishVolumeRequest{VolumeId: rec.Handle, TargetPath: at}); err != nil {
		return fmt.Errorf("driver %s takes volume %s from the pod: %w", rec.Driver, rec.Name, err)
	}
	if err := discard(at); err != nil {
		return err
	}
	if len(t.ledger.users(rec.Driver, rec.Handle, dir)) == 0 {
		if err := t.unstage(ctx, d, rec); err != nil {
			return err
		}
	}
	t.stats.forget(dir)
	if err := t.ledger.drop(dir); err != nil {
		return err
	}
	if rec.Attachable == "true" {
		t.API.UseChanged()
	}
	return nil
}

// unstage undoes stage when the last pod has let go.
func (t *Type) unstage(ctx context.Context, d *driver, rec record) error {
	dir := t.stageDir(rec.Driver, rec.Handle)
	if _, err := os.Stat(dir); os.IsNotExist(err) {
		return nil
	}
	at := filepath.Join(dir, staging)
	if d.stages() {
		ctx, cancel := withLimit(ctx)
		defer cancel()
		if _, err := d.node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: rec.Handle, StagingTargetPath: at}); err != nil {
			return fmt.Errorf("driver %s takes volume %s from the node: %w", rec.Driver, rec.Name, err)
		}
	}
	return discard(dir)
}

// discard removes what a driver has left of a place that it has cleared. Nothing mounted is ever touched: what a driver
// says that it has unmounted and has not is somebody's data.
func discard(path string) error {
	mounts, err := volume.MountsBelow(path)
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("the driver says that it has cleared %s, but %s is mounted", path, strings.Join(slices.Sorted(slices.Values(mounts)), " and "))
	}
	return os.RemoveAll(path)
}
