package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"hardway/nodeagent/device"
	"hardway/nodeagent/plugin"
	"hardway/nodeagent/volume"
	"hardway/nodeagent/volume/csi"
	"hardway/shared/client"
)

// openPlugins builds what takes in plugins, and finds what they have done before.
func (a *agent) openPlugins() error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("read when this machine was started: %w", err)
	}
	drivers := &csi.Drivers{
		Node:    &csi.Node{API: csiNode{a}, Log: a.log.Named("csi")},
		Changed: func() { a.workers.MountAgain() },
	}
	a.csi = csi.New(csi.Options{
		Root: a.cfg.RootDir, Node: a.cfg.Hostname, Boot: strings.TrimSpace(string(boot)), Drivers: drivers, API: csiAPI{a}, Log: a.log.Named("csi"),
	})
	a.plugins = &plugin.Registry{
		Dir: filepath.Join(a.cfg.RootDir, "plugins_registry"), Log: a.log.Named("plugin"),
		Handlers: map[string]plugin.Handler{registration.CSIPlugin: drivers},
	}
	a.devices = &device.Plugins{Root: a.cfg.RootDir, Changed: func() { a.node.Poke() }, Log: a.log.Named("device")}
	return a.devices.Open()
}

// csiAPI ties the CSI volumes to the connection.
type csiAPI struct{ *agent }

// Driver implements csi.API.
func (c csiAPI) Driver(ctx context.Context, name string) (*storagev1.CSIDriver, error) {
	return client.CSIDrivers.Get(ctx, c.api, "", name)
}

// Attachment implements csi.API.
func (c csiAPI) Attachment(ctx context.Context, name string) (*storagev1.VolumeAttachment, error) {
	return client.VolumeAttachments.Get(ctx, c.api, "", name)
}

// Secret implements csi.API.
func (c csiAPI) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return client.Secrets.Get(ctx, c.api, namespace, name)
}

// Token implements csi.API.
func (c csiAPI) Token(ctx context.Context, pod *corev1.Pod, audience string, seconds *int64) (string, time.Time, error) {
	return c.tokens.get(ctx, pod, audience, seconds)
}

// PatchClaimStatus implements csi.API.
func (c csiAPI) PatchClaimStatus(ctx context.Context, namespace, name string, merge []byte) error {
	_, err := client.PersistentVolumeClaims.Patch(ctx, c.api, namespace, name, types.MergePatchType, merge, "status")
	return err
}

// InUse implements csi.API.
func (c csiAPI) InUse(name corev1.UniqueVolumeName) bool {
	n, ok := c.informer.node.Get("", c.cfg.Hostname)
	return ok && slices.Contains(n.Status.VolumesInUse, name)
}

// UseChanged implements csi.API.
func (c csiAPI) UseChanged() { c.node.Poke() }

// Note implements csi.API.
func (c csiAPI) Note(pod *corev1.Pod, eventtype, reason, format string, args ...any) {
	c.note(pod, nil, eventtype, reason, format, args...)
}

// csiNode is what the API says of the node's drivers.
type csiNode struct{ *agent }

// Node implements csi.NodeAPI.
func (c csiNode) Node(ctx context.Context) (*corev1.Node, error) {
	return client.Nodes.Get(ctx, c.api, "", c.cfg.Hostname)
}

// PatchNode implements csi.NodeAPI.
func (c csiNode) PatchNode(ctx context.Context, merge []byte) error {
	_, err := client.Nodes.Patch(ctx, c.api, "", c.cfg.Hostname, types.MergePatchType, merge)
	return err
}

// CSINode implements csi.NodeAPI.
func (c csiNode) CSINode(ctx context.Context) (*storagev1.CSINode, error) {
	return client.CSINodes.Get(ctx, c.api, "", c.cfg.Hostname)
}

// CreateCSINode implements csi.NodeAPI.
func (c csiNode) CreateCSINode(ctx context.Context, n *storagev1.CSINode) error {
	_, err := client.CSINodes.Create(ctx, c.api, n)
	return err
}

// UpdateCSINode implements csi.NodeAPI.
func (c csiNode) UpdateCSINode(ctx context.Context, n *storagev1.CSINode) error {
	_, err := client.CSINodes.Update(ctx, c.api, n)
	return err
}

// volumeStats are the figures of a pod's CSI volumes as the stats summary shows them.
func (a *agent) volumeStats(ctx context.Context, pod *corev1.Pod) []stats.VolumeStats {
	var out []stats.VolumeStats
	now := metav1.Now()
	for _, s := range a.csi.Stats(ctx, pod.UID) {
		v := stats.VolumeStats{Name: s.Volume, VolumeHealthStats: &stats.VolumeHealthStats{Abnormal: s.Abnormal}, FsStats: stats.FsStats{
			Time: now, CapacityBytes: s.Bytes, UsedBytes: s.BytesUsed, AvailableBytes: s.BytesFree,
			Inodes: s.Inodes, InodesUsed: s.InodesUsed, InodesFree: s.InodesFree,
		}}
		i := slices.IndexFunc(pod.Spec.Volumes, func(o corev1.Volume) bool { return o.Name == s.Volume })
		if i >= 0 {
			if claim := volume.ClaimName(pod, &pod.Spec.Volumes[i]); claim != "" {
				v.PVCRef = &stats.PVCReference{Namespace: pod.Namespace, Name: claim}
			}
		}
		out = append(out, v)
	}
	return out
}
