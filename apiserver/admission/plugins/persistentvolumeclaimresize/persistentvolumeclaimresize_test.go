package persistentvolumeclaimresize

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"hardway/apiserver/admission"
	"hardway/apiserver/kinds/core"
)

func TestValidate(t *testing.T) {
	yes, no := true, false
	classes := map[string]*storagev1.StorageClass{
		"grows": {AllowVolumeExpansion: &yes}, "fixed": {AllowVolumeExpansion: &no}, "silent": {},
	}
	p := Plugin{func(_ context.Context, name string) *storagev1.StorageClass { return classes[name] }}
	const noResize = "only dynamically provisioned pvc can be resized"
	for name, c := range map[string]struct {
		class    string
		from, to string
		phase    corev1.PersistentVolumeClaimPhase
		want     string
	}{
		"grows":             {"grows", "1Gi", "2Gi", corev1.ClaimBound, ""},
		"stays":             {"fixed", "1Gi", "1Gi", corev1.ClaimBound, ""},
		"not bound":         {"grows", "1Gi", "2Gi", corev1.ClaimPending, "Only bound persistent volume claims can be expanded"},
		"cannot grow":       {"fixed", "1Gi", "2Gi", corev1.ClaimBound, noResize},
		"does not say":      {"silent", "1Gi", "2Gi", corev1.ClaimBound, noResize},
		"the class is gone": {"gone", "1Gi", "2Gi", corev1.ClaimBound, noResize},
		"no class":          {"", "1Gi", "2Gi", corev1.ClaimBound, noResize},
	} {
		claim := func(size string) *corev1.PersistentVolumeClaim {
			out := &corev1.PersistentVolumeClaim{Status: corev1.PersistentVolumeClaimStatus{Phase: c.phase}}
			out.Spec.StorageClassName = &c.class
			out.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
			return out
		}
		err := p.Validate(t.Context(), &admission.Attributes{
			Kind: core.PersistentVolumeClaim, Operation: admission.Update, Old: claim(c.from), Object: claim(c.to),
		})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
