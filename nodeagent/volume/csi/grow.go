package csi

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"hardway/nodeagent/volume"
)

// grow has the driver enlarge what the node sees of a volume that has been enlarged, and tells the claim. A pod that has
// its volume runs on whatever comes of it; it is tried again when the volume is looked at next.
func (t *Type) grow(ctx context.Context, r volume.Request, w wish) {
	if !growing(r.Claim, r.PV) || w.readOnly {
		return
	}
	d, err := t.Drivers.get(w.driver)
	if err != nil || !d.can[csi.NodeServiceCapability_RPC_EXPAND_VOLUME] {
		return
	}
	size := r.PV.Spec.Capacity[corev1.ResourceStorage]
	err = t.expand(ctx, d, r, w, size)
	infeasible := isInfeasible(err)
	if err == nil || infeasible {
		var patch []byte
		patch, failed := grown(r.Claim, size, infeasible)
		if failed == nil {
			failed = t.API.PatchClaimStatus(ctx, r.Claim.Namespace, r.Claim.Name, patch)
		}
		if failed != nil {
			t.Log.Warn("claim is not told that its volume has grown", zap.String("namespace", r.Claim.Namespace), zap.String("claim", r.Claim.Name), zap.Error(failed))
		}
	}
	if err != nil {
		t.API.Note(r.Pod, corev1.EventTypeWarning, "VolumeResizeFailed", "NodeExpandVolume failed for volume %q: %v", w.name, err)
		return
	}
	t.API.Note(r.Pod, corev1.EventTypeNormal, "FileSystemResizeSuccessful", "MountVolume.NodeExpandVolume succeeded for volume %q", w.name)
}

// growing says whether the volume is larger than its claim has been told, and may be on this node.
func growing(claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) bool {
	if claim == nil || pv == nil {
		return false
	}
	if claim.Status.AllocatedResourceStatuses[corev1.ResourceStorage] == corev1.PersistentVolumeClaimNodeResizeInfeasible {
		return false
	}
	has, told := pv.Spec.Capacity[corev1.ResourceStorage], claim.Status.Capacity[corev1.ResourceStorage]
	return !told.IsZero() && told.Cmp(has) < 0
}

func (t *Type) expand(ctx context.Context, d *driver, r volume.Request, w wish, size resource.Quantity) error {
	secrets, err := t.secrets(ctx, w.expandSecret)
	if err != nil {
		return err
	}
	ask := &csi.NodeExpandVolumeRequest{
		VolumeId: w.handle, VolumePath: target(r.Dir, w.block), CapacityRange: &csi.CapacityRange{RequiredBytes: size.Value()},
		VolumeCapability: w.capability(d, nil), Secrets: secrets,
	}
	if d.stages() {
		ask.StagingTargetPath = filepath.Join(t.stageDir(w.driver, w.handle), staging)
	}
	ctx, cancel := withLimit(ctx)
	defer cancel()
	_, err = d.node.NodeExpandVolume(ctx, ask)
	return err
}

// isInfeasible says whether it makes no sense to try again.
func isInfeasible(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.OutOfRange, codes.NotFound:
		return true
	default:
		return false
	}
}

// grown is the change of a claim's status after its volume has grown here, or cannot.
func grown(claim *corev1.PersistentVolumeClaim, size resource.Quantity, infeasible bool) ([]byte, error) {
	if infeasible {
		return json.Marshal(map[string]any{"status": map[string]any{
			"allocatedResourceStatuses": map[string]any{"storage": corev1.PersistentVolumeClaimNodeResizeInfeasible},
		}})
	}
	conditions := []corev1.PersistentVolumeClaimCondition{}
	for _, c := range claim.Status.Conditions {
		switch c.Type {
		case corev1.PersistentVolumeClaimResizing, corev1.PersistentVolumeClaimFileSystemResizePending,
			corev1.PersistentVolumeClaimControllerResizeError, corev1.PersistentVolumeClaimNodeResizeError:
		default:
			conditions = append(conditions, c)
		}
	}
	out, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": claim.ResourceVersion}, // nobody else may have written it meanwhile
		"status": map[string]any{
			"capacity": map[string]any{"storage": size.String()}, "conditions": conditions,
			"allocatedResourceStatuses": map[string]any{"storage": nil},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("encode status of claim: %w", err)
	}
	return out, nil
}
