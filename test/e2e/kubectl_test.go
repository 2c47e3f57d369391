//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// user is kubectl in one namespace.
type user struct{ namespace string }

// newUser makes a namespace for a test and removes it afterwards.
func newUser(t *testing.T) user {
	t.Helper()
	name := strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, t.Name()), "-")
	u := user{name}
	u.run(t, "", "create", "namespace", name)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("state at the failure:\n%s", dump(name))
		}
		// t.Context() is over by now, and nobody waits for the namespace to be gone.
		if out, err := command(context.Background(), "", "delete", "namespace", name, "--wait=false").CombinedOutput(); err != nil {
			t.Errorf("delete namespace %s: %v %s", name, err, out)
		}
	})
	return u
}

// dump is what one looks at first when a test failed.
func dump(namespace string) string {
	var b strings.Builder
	for _, args := range [][]string{{"get", "pods,services,deployments,replicasets", "-o", "wide"}, {"get", "events"}} {
		out, _ := command(context.Background(), "", append(args, "-n", namespace)...).CombinedOutput()
		b.Write(out)
	}
	return b.String()
}

func command(ctx context.Context, stdin string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(build, "bin", "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(state, "admin.kubeconfig"), "HOME="+state)
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	return cmd
}

// try runs kubectl and returns what it wrote to stdout; the error holds stderr.
func (u user) try(t *testing.T, stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := command(ctx, stdin, append([]string{"--namespace", u.namespace}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// run is try for commands that must succeed.
func (u user) run(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := u.try(t, stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// kubectl runs a command line without spaces inside its words, which must succeed.
func (u user) kubectl(t *testing.T, line string) string {
	t.Helper()
	return u.run(t, "", strings.Fields(line)...)
}

// apply applies a manifest.
func (u user) apply(t *testing.T, manifest string) {
	t.Helper()
	u.run(t, manifest, "apply", "-f", "-")
}

// read gets an object into v.
func (u user) read(t *testing.T, resource, name string, v any) error {
	out, err := u.try(t, "", "get", resource, name, "-o", "json")
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), v)
}

// pods reads the pods of hello.
func (u user) pods(t *testing.T) []corev1.Pod {
	t.Helper()
	var list corev1.PodList
	if err := json.Unmarshal([]byte(u.run(t, "", "get", "pods", "-l", "app=hello", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// contains fails the test when text lacks one of the words.
func contains(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is missing in:\n%s", word, text)
		}
	}
}

// shell is a pod that does nothing until it is told to by exec.
const shell = `
apiVersion: v1
kind: Pod
metadata: {name: shell, labels: {app: shell}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: shell
    image: busybox:1.35
    command: [sh, -c, "echo ready; sleep 100000"]
`

// startShell makes the pod shell and waits until it is ready.
func (u user) startShell(t *testing.T) {
	t.Helper()
	u.apply(t, shell)
	u.kubectl(t, "wait pod/shell --for=condition=Ready --timeout=30s")
}

// example is a file of examples/ without the node port, which only one namespace can have.
func example(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(", nodePort: 30080", "", "type: NodePort", "type: ClusterIP").Replace(string(text))
}

// startHello deploys examples/hello.yaml and waits until all its pods are ready.
func (u user) startHello(t *testing.T) {
	t.Helper()
	u.apply(t, example(t, "hello.yaml"))
	u.kubectl(t, "rollout status deployment/hello --timeout=60s")
}
