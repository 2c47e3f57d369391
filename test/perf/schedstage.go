package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// stage is an API server of this project with nothing else connected to it.
type stage struct {
	dir, kubeconfig string
	side            *apiSide
	clients         []*kubernetes.Clientset
}

func startStage(ctx context.Context, o options) (*stage, error) {
	dir, err := os.MkdirTemp("", "bench-scheduler")
	if err != nil {
		return nil, err
	}
	sides, err := apiSides(o, dir)
	if err != nil {
		return nil, err
	}
	s := &stage{dir: dir, kubeconfig: filepath.Join(dir, "kubeconfig"), side: sides[1]}
	if _, err := s.side.start(ctx); err != nil {
		return nil, err
	}
	if s.clients, err = s.side.clients(4); err != nil {
		return nil, err
	}
	config := s.side.config()
	return s, clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, s.kubeconfig)
}

func (s *stage) end() {
	s.side.stop()
	_ = os.RemoveAll(s.dir)
}

func (s *stage) client(i int) *kubernetes.Clientset { return s.clients[i%len(s.clients)] }

// prepare makes the namespace, the class of pods that evict others, and the nodes, in ten zones; and volumes, if pods have them.
func (s *stage) prepare(ctx context.Context, w *workload) error {
	api := s.clients[0]
	if _, err := api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: schedNamespace}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := api.CoreV1().ServiceAccounts(schedNamespace).Create(ctx, account, metav1.CreateOptions{}); err != nil {
		return err
	}
	class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "bench-important"}, Value: 1000}
	if _, err := api.SchedulingV1().PriorityClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := parallel(ctx, w.nodes, func(i int) error { return makeNode(ctx, s.client(i), i) }); err != nil || !w.volumes {
		return err
	}
	return parallel(ctx, w.pods, func(i int) error { return makeVolume(ctx, s.client(i), i) })
}

func nodeName(i int) string { return fmt.Sprintf("node-%05d", i) }

func makeNode(ctx context.Context, api kubernetes.Interface, i int) error {
	name := nodeName(i)
	offer := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods: resource.MustParse("110"), corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
	}
	now := metav1.Now()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		corev1.LabelHostname: name, corev1.LabelTopologyZone: "zone-" + strconv.Itoa(i%10), corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
	}}}
	n.Status = corev1.NodeStatus{Capacity: offer, Allocatable: offer, Conditions: []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: now, LastTransitionTime: now,
	}}}
	made, err := api.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if len(made.Spec.Taints) > 0 { // of a new node, which a controller would take away
		made.Spec.Taints = nil
		if made, err = api.CoreV1().Nodes().Update(ctx, made, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	if len(made.Status.Allocatable) == 0 {
		made.Status = n.Status
		_, err = api.CoreV1().Nodes().UpdateStatus(ctx, made, metav1.UpdateOptions{})
	}
	return err
}

// makeVolume makes a volume of a CSI driver and a claim that are bound to each other, as a controller would leave them.
func makeVolume(ctx context.Context, api kubernetes.Interface, i int) error {
	claim, volume := fmt.Sprintf("claim-%06d", i), fmt.Sprintf("volume-%06d", i)
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: claim, Annotations: map[string]string{"pv.kubernetes.io/bind-completed": "yes"}}}
	c.Spec = corev1.PersistentVolumeClaimSpec{AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: size}, VolumeName: volume, StorageClassName: new(string)}
	made, err := api.CoreV1().PersistentVolumeClaims(schedNamespace).Create(ctx, c, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: volume}}
	v.Spec = corev1.PersistentVolumeSpec{Capacity: size, AccessModes: modes, ClaimRef: &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: schedNamespace, Name: claim, UID: made.UID}}
	v.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "bench.example.com", VolumeHandle: volume}
	if _, err := api.CoreV1().PersistentVolumes().Create(ctx, v, metav1.CreateOptions{}); err != nil {
		return err
	}
	made.Status.Phase, made.Status.AccessModes, made.Status.Capacity = corev1.ClaimBound, modes, size
	_, err = api.CoreV1().PersistentVolumeClaims(schedNamespace).UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}

// create makes pods, many at a time. When each began is told before, from several goroutines.
func (s *stage) create(ctx context.Context, pods []*corev1.Pod, began func(name string)) error {
	err := parallel(ctx, len(pods), func(i int) error {
		if began != nil {
			began(pods[i].Name)
		}
		_, err := s.client(i).CoreV1().Pods(schedNamespace).Create(ctx, pods[i], metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("create pods: %w", err)
	}
	return nil
}

// place creates pods and waits until all have a node. It returns how long each took.
func (s *stage) place(ctx context.Context, pods []*corev1.Pod) (out []time.Duration, err error) {
	watch, err := s.clients[0].CoreV1().Pods(schedNamespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	defer watch.Stop()
	var mu sync.Mutex
	created := map[string]time.Time{}
	failed := make(chan error, 1)
	go func() {
		failed <- s.create(ctx, pods, func(name string) {
			mu.Lock()
			created[name] = time.Now()
			mu.Unlock()
		})
	}()
	bound := map[string]bool{}
	for len(out) < len(pods) {
		select {
		case err := <-failed:
			if err != nil {
				return nil, err
			}
			failed = nil
		case e, ok := <-watch.ResultChan():
			p, is := e.Object.(*corev1.Pod)
			if !ok || !is {
				return nil, fmt.Errorf("the watch ended with %d of %d pods bound: %w", len(out), len(pods), ctx.Err())
			}
			if p.Spec.NodeName == "" || bound[p.Name] {
				continue
			}
			mu.Lock()
			since, ours := created[p.Name]
			mu.Unlock()
			if ours {
				bound[p.Name] = true
				out = append(out, time.Since(since))
			}
		}
	}
	return out, nil
}

// clear removes the pods.
func (s *stage) clear(ctx context.Context) error {
	pods := s.clients[0].CoreV1().Pods(schedNamespace)
	if err := pods.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}, metav1.ListOptions{}); err != nil {
		return fmt.Errorf("remove pods: %w", err)
	}
	left, err := pods.List(ctx, metav1.ListOptions{Limit: 1})
	if err == nil && len(left.Items) > 0 {
		err = fmt.Errorf("pods are left after their removal")
	}
	return err
}

// parallel does something n times, as many at once as there are clients, and returns the first failure.
func parallel(ctx context.Context, n int, do func(i int) error) error {
	return some(ctx, n, schedClients, func(i int) error {
		if err := do(i); err != nil {
			return fmt.Errorf("the %d-th: %w", i, err)
		}
		return nil
	})
}
