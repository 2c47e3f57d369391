package main

import (
	"fmt"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	storedPods = 10_000
	listTimes  = 8
)

// lists fills the store with pods that nothing runs, restarts the server, and reads all of them as clients do: newest
// state, one list at a time. Bodies are thrown away undecoded, so that the client costs little.
func (r *apiRun) lists() error {
	if err := r.parallel(storedPods, 16, func(api *kubernetes.Clientset, i int) error {
		_, err := api.CoreV1().Pods(apiNamespace).Create(r.ctx, storedPod(i), metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	}); err != nil {
		return err
	}
	r.side.stop()
	took, err := r.side.start(r.ctx)
	if err != nil {
		return err
	}
	r.out.add("restart", r.side, took.Seconds())
	settle(r.ctx, time.Minute)
	_, idle := r.side.used()
	r.out.add("memory10k", r.side, idle)
	peak := idle
	for _, how := range []struct {
		key, accept string
		gzip        bool
	}{
		{"listjson", "application/json", false}, {"listproto", "application/vnd.kubernetes.protobuf", false},
		{"listjsongzip", "application/json", true}, {"listprotogzip", "application/vnd.kubernetes.protobuf", true},
	} {
		begin := time.Now()
		for range listTimes {
			if err := r.listOnce(how.accept, how.gzip); err != nil {
				return fmt.Errorf("%s: %w", how.key, err)
			}
			_, memory := r.side.used()
			peak = max(peak, memory)
		}
		r.out.add(how.key, r.side, listTimes/time.Since(begin).Seconds())
	}
	r.out.add("listmemory", r.side, max(peak-idle, 1))
	return nil
}

func (r *apiRun) listOnce(accept string, gzip bool) error {
	cfg := r.side.config()
	cfg.DisableCompression = true // the body stays as it comes
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, cfg.Host+"/api/v1/namespaces/"+apiNamespace+"/pods", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", accept)
	if gzip {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it is read to its end
	size, err := io.Copy(io.Discard, resp.Body)
	switch zipped := resp.Header.Get("Content-Encoding") == "gzip"; {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK || size < storedPods || zipped != gzip:
		return fmt.Errorf("%s with %d bytes, zipped: %t", resp.Status, size, zipped)
	}
	return nil
}

// storedPod is a pod of ordinary size, 3 KB as JSON, for a scheduler that does not exist.
func storedPod(i int) *corev1.Pod {
	no := false
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("stored-%06d", i),
			Labels: map[string]string{
				"app.kubernetes.io/name": "stored", "app.kubernetes.io/instance": fmt.Sprintf("stored-%d", i%100),
				"pod-template-hash": "5d4f8c7b9d", "tier": "backend",
			},
			Annotations: map[string]string{"checksum/config": "4a8f2f0d4d5a8f1f6a1c9e9b0b0c3c44de0d1f3a0ce0a6a63f6f2b8f3d7f8a10"},
		},
		Spec: corev1.PodSpec{
			SchedulerName: "bench-none", AutomountServiceAccountToken: &no,
			Containers: []corev1.Container{{
				Name: "main", Image: "registry.example/stored/server:v1.2.3",
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
				Env: []corev1.EnvVar{
					{Name: "LOG_LEVEL", Value: "info"},
					{Name: "DATABASE_URL", Value: "postgres://db.stored.svc.cluster.local:5432/stored"},
					{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
				},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi"),
				}},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromString("http")}}},
				VolumeMounts:   []corev1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}},
			}},
			Volumes: []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		},
	}
}
