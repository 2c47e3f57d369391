// Package integration tests the node agent as a program: its real binary with the real runtime against the real
// apiserver, in a network and mount namespace of its own, so that the machine's own are not touched.
package integration

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"hardway/nodeagent/image/imagetest"
	"hardway/shared/client"
	"hardway/shared/testenv"
	"hardway/shared/testenv/certs"
)

const (
	inside   = "HARDWAY_TEST_NAMESPACE"
	nodeName = "n1"
	nodeIP   = "10.99.0.1"
	cgroup   = "hwtest-agent"
)

// TestMain runs the tests again in namespaces of their own.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Println("SKIP: the node agent needs root")
		os.Exit(0)
	}
	if os.Getenv(inside) != "" {
		if err := settle(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		os.Exit(1)
	}
}

// settle gives the new namespaces an address and keeps their mounts to themselves.
func settle() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, c := range []string{"link set lo up", "link add lan0 type bridge", "address add " + nodeIP + "/24 dev lan0", "link set lan0 up", "route add default dev lan0"} {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", c, err, out)
		}
	}
	return nil
}

// agent is a node agent on a machine of its own, with an apiserver.
type agent struct {
	t       *testing.T
	env     *testenv.Env
	api     *client.API
	dir     string
	binary  string
	extra   []string // flags
	process *exec.Cmd
	log     *os.File
}

// start builds everything, starts an apiserver and the agent, and waits until the node is ready.
func start(t *testing.T) *agent {
	t.Helper()
	a := prepare(t)
	a.launch()
	t.Cleanup(a.stop)
	a.nodeReady()
	return a
}

// prepare does all that comes before the agent's own start.
func prepare(t *testing.T) *agent {
	t.Helper()
	a := &agent{t: t, env: testenv.Start(t), dir: t.TempDir(), binary: testenv.Build(t, "nodeagent")}
	a.api = a.env.API()
	a.files()
	if out, err := exec.Command(a.binary, "image", "import", "--image-dir="+a.path("images"), imagetest.Busybox(t)).CombinedOutput(); err != nil {
		t.Fatalf("import image: %v: %s", err, out)
	}
	// There are no controllers here to make it.
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}
	if _, err := client.ServiceAccounts.Create(t.Context(), a.api, account); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *agent) nodeReady() {
	a.t.Helper()
	a.eventually("the node is ready", func(ctx context.Context) error {
		n, err := client.Nodes.Get(ctx, a.api, "", nodeName)
		if err != nil {
			return err
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("conditions %+v", n.Status.Conditions)
	})
}

func (a *agent) path(name string) string { return filepath.Join(a.dir, name) }

// files writes certificate, kubeconfig and configuration.
func (a *agent) files() {
	a.t.Helper()
	leaf, err := a.env.CA.Issue(certs.Leaf{CommonName: "system:node:" + nodeName, Organization: []string{"system:nodes"}, Hosts: []string{nodeName, nodeIP}})
	if err != nil {
		a.t.Fatal(err)
	}
	kubeconfig, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: "https://" + a.env.Address, CertificateAuthorityData: a.env.CA.PEM}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {ClientCertificateData: leaf.CertPEM, ClientKeyData: leaf.KeyPEM}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	})
	if err != nil {
		a.t.Fatal(err)
	}
	config := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {x509: {clientCAFile: %s}}
tlsCertFile: node.pem
tlsPrivateKeyFile: node-key.pem
clusterDNS: [10.32.0.10]
cgroupRoot: %s
podLogsDir: %s
staticPodPath: %s
evictionHard: {memory.available: 1Mi} # how full this machine's disk is must not matter
`, a.env.Dir+"/ca.pem", cgroup, a.path("logs/pods"), a.path("manifests"))
	if err := os.MkdirAll(a.path("manifests"), 0o755); err != nil {
		a.t.Fatal(err)
	}
	for name, data := range map[string][]byte{"node.pem": leaf.CertPEM, "node-key.pem": leaf.KeyPEM, "kubeconfig": kubeconfig, "config.yaml": []byte(config)} {
		if err := os.WriteFile(a.path(name), data, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

func (a *agent) launch() {
	a.t.Helper()
	log, err := os.OpenFile(a.path("agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		a.t.Fatal(err)
	}
	a.log = log
	a.process = exec.Command(a.binary, "--config="+a.path("config.yaml"), "--kubeconfig="+a.path("kubeconfig"), "--hostname-override="+nodeName,
		"--node-ip="+nodeIP, "--root-dir="+a.path("kubelet"), "--state-dir="+a.path("run"), "--image-dir="+a.path("images"),
		"--pod-cidr=10.200.1.0/24", "--v=2")
	a.process.Args = append(a.process.Args, a.extra...)
	a.process.Stdout, a.process.Stderr = log, log
	if err := a.process.Start(); err != nil {
		a.t.Fatal(err)
	}
}

// kill ends the agent as a power cut would; what it started runs on.
func (a *agent) kill() {
	a.process.Process.Kill() //nolint:errcheck // Wait tells
	a.process.Wait()         //nolint:errcheck // it was killed
	a.log.Close()
}

// stop deletes all pods, so that nothing is left running, and ends the agent.
func (a *agent) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	list, err := client.Pods.List(ctx, a.api, "", metav1.ListOptions{})
	if err == nil {
		for _, p := range list.Items {
			client.Pods.Delete(ctx, a.api, p.Namespace, p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}) //nolint:errcheck // checked below
		}
	}
	for ctx.Err() == nil {
		if left, err := os.ReadDir(a.path("run/pods")); err == nil && len(left) == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if ctx.Err() != nil {
		a.t.Error("pods are left on the node")
	}
	a.process.Process.Signal(syscall.SIGTERM) //nolint:errcheck // Wait tells
	if err := a.process.Wait(); err != nil {
		a.t.Errorf("agent: %v", err)
	}
	a.log.Close()
	if a.t.Failed() {
		data, _ := os.ReadFile(a.path("agent.log"))
		a.t.Logf("the agent's log:\n%s", data[max(0, len(data)-8000):])
	}
	for _, dir := range cgroups() {
		os.Remove(dir) //nolint:errcheck // one that is in use shows in the next run
	}
}

// cgroups lists what is left of the test's cgroups, the deepest first.
func cgroups() []string {
	out, _ := exec.Command("find", "/sys/fs/cgroup", "-depth", "-type", "d", "-path", "*/"+cgroup+"*").Output()
	return strings.Fields(string(out))
}

// eventually waits until check returns nil.
func (a *agent) eventually(what string, check func(ctx context.Context) error) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 2*time.Minute)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			a.t.Fatalf("%s: %v", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// create stores a pod that is bound to the node.
func (a *agent) create(name string, edit func(*corev1.Pod)) *corev1.Pod {
	a.t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{
		NodeName: nodeName, TerminationGracePeriodSeconds: new(int64(5)), AutomountServiceAccountToken: new(false),
		Containers: []corev1.Container{{Name: "c", Image: "busybox", ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"}}},
	}}
	if edit != nil {
		edit(p)
	}
	created, err := client.Pods.Create(a.t.Context(), a.api, p)
	if err != nil {
		a.t.Fatal(err)
	}
	return created
}

// until waits for a state of a pod and returns it.
func (a *agent) until(name, what string, ok func(*corev1.Pod) bool) *corev1.Pod {
	a.t.Helper()
	var pod *corev1.Pod
	a.eventually(name+": "+what, func(ctx context.Context) error {
		var err error
		if pod, err = client.Pods.Get(ctx, a.api, "default", name); err != nil {
			return err
		}
		if !ok(pod) {
			return fmt.Errorf("%s %s: %+v", pod.Status.Phase, pod.Status.Reason, pod.Status.ContainerStatuses)
		}
		return nil
	})
	return pod
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// shell makes the pod's container run a script.
func shell(script string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"sh", "-c", script} }
}

// output is what a container has printed.
func (a *agent) output(p *corev1.Pod, container string, attempt int) string {
	a.t.Helper()
	data, err := os.ReadFile(a.path(fmt.Sprintf("logs/pods/%s_%s_%s/%s/%d.log", p.Namespace, p.Name, p.UID, container, attempt)))
	if err != nil {
		a.t.Fatal(err)
	}
	var out bytes.Buffer
	for l := range strings.Lines(string(data)) {
		if f := strings.SplitN(l, " ", 4); len(f) == 4 {
			out.WriteString(f[3])
		}
	}
	return out.String()
}
