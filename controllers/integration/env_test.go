// Package integration runs the controllers' real binary against the real API server. The only thing played here is the
// node: hollow binds pods to itself, reports them running and ready, and lets them go when they are deleted.
//
// With HARDWAY_TEST_KUBECONFIG the tests use a cluster that is there already, such as one of upstream's kube-apiserver;
// its default namespace and nodes are changed, so it has to be one to throw away, without a controller manager.
package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"hardway/shared/client"
	"hardway/shared/testenv"
)

// patience is how long a condition may take on a busy machine.
const patience = 20 * time.Second

// cluster is an API server and what a test needs of it.
type cluster struct {
	t          testing.TB
	api        *client.API
	kubeconfig string
	ca, caKey  string // files; the key's is "" when it is not known
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	var cfg *rest.Config
	var key []byte
	if file := os.Getenv("HARDWAY_TEST_KUBECONFIG"); file != "" {
		var err error
		if cfg, err = client.Config(file, "controllers-test"); err != nil {
			t.Fatal(err)
		}
	} else {
		env := testenv.Start(t)
		cfg, key = env.Config(), env.CA.KeyPEM
	}
	if err := rest.LoadTLSFiles(cfg); err != nil {
		t.Fatal(err)
	}
	api, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := &cluster{t: t, api: api, kubeconfig: filepath.Join(dir, "kubeconfig"), ca: filepath.Join(dir, "ca.crt")}
	file := clientcmdapi.NewConfig()
	file.Clusters["c"] = &clientcmdapi.Cluster{Server: cfg.Host, CertificateAuthorityData: cfg.CAData}
	file.AuthInfos["u"] = &clientcmdapi.AuthInfo{ClientCertificateData: cfg.CertData, ClientKeyData: cfg.KeyData}
	file.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	file.CurrentContext = "x"
	if err := clientcmd.WriteToFile(*file, c.kubeconfig); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.ca, cfg.CAData, 0o600); err != nil {
		t.Fatal(err)
	}
	if key != nil {
		c.caKey = filepath.Join(dir, "ca.key")
		if err := os.WriteFile(c.caKey, key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// in is the cluster for a subtest: what it makes goes with it.
func (c *cluster) in(t testing.TB) *cluster {
	own := *c
	own.t = t
	return &own
}

// daemon is a running hardway-controllers.
type daemon struct {
	*exec.Cmd
	log  *bytes.Buffer
	once sync.Once
}

// start runs the controllers until the test ends.
func (c *cluster) start(flags ...string) *daemon {
	c.t.Helper()
	d := &daemon{log: &bytes.Buffer{}}
	d.Cmd = exec.Command(testenv.Build(c.t, "controllers"), append([]string{
		"--kubeconfig=" + c.kubeconfig, "--root-ca-file=" + c.ca, "--secure-port=0", "--v=2", "--leader-elect=false",
		"--allocate-node-cidrs", "--cluster-cidr=10.200.0.0/16", "--service-cluster-ip-range=10.32.0.0/24",
	}, flags...)...)
	d.Stdout, d.Stderr = d.log, d.log
	d.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		d.end(syscall.SIGTERM)
		if c.t.Failed() {
			lines := strings.Split(d.log.String(), "\n")
			c.t.Logf("end of the log of %v:\n%s", flags, strings.Join(lines[max(0, len(lines)-80):], "\n"))
		}
	})
	return d
}

// end stops the process and waits for it.
func (d *daemon) end(sig syscall.Signal) {
	d.once.Do(func() {
		d.Process.Signal(sig) //nolint:errcheck // it may have ended already
		d.Wait()              //nolint:errcheck // how it ended does not matter
	})
}

// eventually waits until check returns "", which otherwise says what is still wrong. It looks again at every change
// that watches tell of, here every 10 ms.
func (c *cluster) eventually(what string, check func() string) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		problem := check()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: %s", what, problem)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// steadily checks for a while that something stays as it is.
func (c *cluster) steadily(what string, check func() string) {
	c.t.Helper()
	for deadline := time.Now().Add(700 * time.Millisecond); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if problem := check(); problem != "" {
			c.t.Fatalf("%s: %s", what, problem)
		}
	}
}

// namespace makes a namespace, removes it at the end, and waits until pods can be created in it.
func (c *cluster) namespace(name string) string {
	c.t.Helper()
	ns, err := client.Namespaces.Create(c.t.Context(), c.api, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: name + "-"}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.eventually("default service account", func() string { return found(client.ServiceAccounts.Get(c.t.Context(), c.api, ns.Name, "default")) })
	return ns.Name
}

func found[T any](_ *T, err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

func gone[T any](_ *T, err error) string {
	switch {
	case err == nil:
		return "is still there"
	case apierrors.IsNotFound(err):
		return ""
	default:
		return err.Error()
	}
}

// hollow plays a node: pods in the namespace are bound to it, become ready and go. Pods with the annotation
// test/unready stay unready.
type hollow struct {
	c    *cluster
	name string
	ip   int
	mu   sync.Mutex
}

// hollow starts a node for the pods of a namespace.
func (c *cluster) hollow(namespace string) *hollow {
	c.t.Helper()
	h := &hollow{c: c, name: "node-" + namespace}
	c.register(h.name)
	w, err := client.Pods.Watch(c.t.Context(), c.api, namespace, metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for e := range w.ResultChan() {
			if pod, ok := e.Object.(*corev1.Pod); ok && e.Type != watch.Deleted {
				if err := h.serve(context.WithoutCancel(c.t.Context()), pod); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
					c.t.Logf("hollow node, pod %s: %v", pod.Name, err)
				}
			}
		}
	})
	c.t.Cleanup(func() {
		w.Stop()
		wg.Wait()
	})
	return h
}

// register makes a Node object with a fresh status, which is removed at the end.
func (c *cluster) register(name string) *corev1.Node {
	c.t.Helper()
	node, err := client.Nodes.Create(c.t.Context(), c.api, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: "zone-a"}}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		client.Nodes.Delete(context.Background(), c.api, "", name, metav1.DeleteOptions{}) //nolint:errcheck // the test is over
	})
	return c.reportReady(node.Name)
}

func (c *cluster) reportReady(name string) *corev1.Node {
	c.t.Helper()
	status, _ := json.Marshal(map[string]any{"status": corev1.NodeStatus{Conditions: []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Test", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()},
		{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse, Reason: "Test", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()},
	}}})
	node, err := client.Nodes.Patch(c.t.Context(), c.api, "", name, types.StrategicMergePatchType, status, "status")
	if err != nil {
		c.t.Fatal(err)
	}
	return node
}

func (h *hollow) serve(ctx context.Context, pod *corev1.Pod) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case pod.DeletionTimestamp != nil:
		if _, held := pod.Annotations["test/linger"]; held {
			return nil
		}
		return client.Pods.Delete(ctx, h.c.api, pod.Namespace, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0)), Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	case pod.Spec.NodeName == "":
		return client.Pods.Post(ctx, h.c.api, pod.Namespace, pod.Name, "binding", &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}, Target: corev1.ObjectReference{Kind: "Node", Name: h.name},
		})
	case pod.Status.PodIP == "":
		h.ip++
		return h.report(ctx, pod, fmt.Sprintf("10.200.%d.%d", h.ip/250, h.ip%250+1))
	}
	return nil
}

func (h *hollow) report(ctx context.Context, pod *corev1.Pod, ip string) error {
	ready := corev1.ConditionTrue
	if _, unready := pod.Annotations["test/unready"]; unready {
		ready = corev1.ConditionFalse
	}
	status, _ := json.Marshal(map[string]any{"status": map[string]any{
		"phase": "Running", "podIP": ip, "podIPs": []map[string]string{{"ip": ip}},
		"conditions": []map[string]any{{"type": "Ready", "status": ready, "lastTransitionTime": metav1.Now()}},
	}})
	_, err := client.Pods.Patch(ctx, h.c.api, pod.Namespace, pod.Name, types.StrategicMergePatchType, status, "status")
	return err
}
