package taint

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestPlan(t *testing.T) {
	execute := func(key string) corev1.Taint { return corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute} }
	tolerate := func(key string, seconds *int64) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, TolerationSeconds: seconds}
	}
	tests := []struct {
		name        string
		taints      []corev1.Taint
		tolerations []corev1.Toleration
		since       time.Duration
		want        verdict
	}{
		{"no taints", nil, nil, 0, verdict{}},
		{"NoSchedule does not evict", []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}}, nil, 0, verdict{}},
		{"not tolerated", []corev1.Taint{execute("a")}, nil, 0, verdict{leave: true}},
		{"tolerated for ever", []corev1.Taint{execute("a")}, []corev1.Toleration{tolerate("a", nil)}, 0, verdict{}},
		{"everything tolerated", []corev1.Taint{execute("a")}, []corev1.Toleration{tolerate("", nil)}, 0, verdict{}},
		{"for a while", []corev1.Taint{execute("a")}, []corev1.Toleration{tolerate("a", new(int64(300)))}, time.Minute, verdict{true, 4 * time.Minute}},
		{"long enough", []corev1.Taint{execute("a")}, []corev1.Toleration{tolerate("a", new(int64(30)))}, time.Minute, verdict{true, -30 * time.Second}},
		{"the shortest counts", []corev1.Taint{execute("a"), execute("b")}, []corev1.Toleration{tolerate("a", new(int64(300))), tolerate("b", new(int64(20)))}, 0, verdict{true, 20 * time.Second}},
		{"one not tolerated", []corev1.Taint{execute("a"), execute("b")}, []corev1.Toleration{tolerate("a", new(int64(300)))}, 0, verdict{leave: true}},
		{"another value", []corev1.Taint{{Key: "a", Value: "x", Effect: corev1.TaintEffectNoExecute}}, []corev1.Toleration{{Key: "a", Value: "y"}}, 0, verdict{leave: true}},
		{"same value", []corev1.Taint{{Key: "a", Value: "x", Effect: corev1.TaintEffectNoExecute}}, []corev1.Toleration{{Key: "a", Value: "x"}}, 0, verdict{}},
		{"another effect", []corev1.Taint{execute("a")}, []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}, 0, verdict{leave: true}},
		{"negative seconds", []corev1.Taint{execute("a")}, []corev1.Toleration{tolerate("a", new(int64(-5)))}, 0, verdict{true, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: tt.tolerations}}
			if got := makePlan(pod, tt.taints, func(corev1.Taint) time.Duration { return tt.since }); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
