package evict

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestParse(t *testing.T) {
	got, err := Parse(map[string]string{"memory.available": "1Gi", "nodefs.available": "0%"}, map[string]string{"imagefs.available": "20%"},
		map[string]string{"imagefs.available": "1m"}, map[string]string{"memory.available": "500Mi"})
	if err != nil || len(got) != 2 || got[0].Amount != 1<<30 || got[0].Reclaim != 500<<20 || !got[1].Soft || got[1].Grace != time.Minute {
		t.Errorf("%+v, %v", got, err)
	}
	for name, bad := range map[string]map[string]string{"unknown signal": {"disk": "1"}, "percentage": {"nodefs.available": "120%"}, "quantity": {"memory.available": "much"}} {
		if _, err := Parse(bad, nil, nil, nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if _, err := Parse(nil, map[string]string{"memory.available": "1Gi"}, nil, nil); err == nil {
		t.Error("a soft threshold without a grace period was accepted")
	}
}

func TestHysteresis(t *testing.T) {
	thresholds := []Threshold{
		{Signal: Memory, Amount: 100, Reclaim: 50}, {Signal: NodeFS, Percent: 10, Soft: true, Grace: time.Minute},
	}
	begin := time.Unix(0, 0)
	var s State
	for _, step := range []struct {
		after        time.Duration
		memory, disk int64
		pressure     string
		act          Signal
	}{
		{0, 500, 500, "", ""},
		{10 * time.Second, 99, 50, "MemoryPressure", Memory},
		{20 * time.Second, 120, 50, "MemoryPressure", Memory}, // above the threshold, not above what is to be reclaimed
		{30 * time.Second, 151, 50, "MemoryPressure", ""},
		{80 * time.Second, 500, 50, "DiskPressure MemoryPressure", NodeFS}, // its grace is over
		{90 * time.Second, 500, 500, "DiskPressure MemoryPressure", ""},
		{321 * time.Second, 500, 500, "DiskPressure", ""},
		{400 * time.Second, 500, 500, "", ""},
	} {
		v := s.Next(map[Signal]Level{Memory: {step.memory, 1000}, NodeFS: {step.disk, 1000}}, thresholds, 5*time.Minute, begin.Add(step.after))
		var pressure []string
		for _, c := range []corev1.NodeConditionType{corev1.NodeDiskPressure, corev1.NodeMemoryPressure} {
			if v.Pressure[c] {
				pressure = append(pressure, string(c))
			}
		}
		act := Signal("")
		if v.Act != nil {
			act = v.Act.Signal
		}
		if got := strings.Join(pressure, " "); got != step.pressure || act != step.act {
			t.Errorf("after %s: pressure %q, act on %q; want %q, %q", step.after, got, act, step.pressure, step.act)
		}
	}
}

func TestRank(t *testing.T) {
	pod := func(name string, priority int32, request string, used int64) Candidate {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Priority: &priority, Containers: []corev1.Container{{}}}}
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"memory": resource.MustParse(request)}
		return Candidate{Pod: p, Memory: used}
	}
	var names []string
	for _, c := range Rank(Memory, []Candidate{
		pod("modest", 0, "100", 50), pod("greedy", 0, "100", 500), pod("important-greedy", 10, "100", 900), pod("greedier", 0, "0", 600),
		pod("critical", criticalPriority, "0", 9000),
	}) {
		names = append(names, c.Pod.Name)
	}
	if got := strings.Join(names, " "); got != "greedier greedy important-greedy modest" {
		t.Errorf("order %s", got)
	}
}

func TestOverLimit(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{
		Volumes:    []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: resource.NewQuantity(10, resource.BinarySI)}}}},
		Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"ephemeral-storage": resource.MustParse("20")}}}},
	}}
	if !Limited(p) || Limited(&corev1.Pod{}) {
		t.Error("which pods have limits?")
	}
	for want, s := range map[string]Storage{
		"":                          {EmptyDirs: map[string]int64{"v": 10}, Containers: map[string]int64{"c": 10}},
		`EmptyDir volume "v"`:       {EmptyDirs: map[string]int64{"v": 11}},
		"Container c exceeded":      {Containers: map[string]int64{"c": 21}},
		"total limit of containers": {EmptyDirs: map[string]int64{"v": 10}, Containers: map[string]int64{"c": 11}},
	} {
		if got := OverLimit(p, s); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%+v: %q, want %q", s, got, want)
		}
	}
}
