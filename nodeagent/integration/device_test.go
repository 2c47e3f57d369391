package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"hardway/nodeagent/device/devicetest"
	"hardway/shared/client"
)

// TestDevices has two pods share the devices of a plugin, and the agent killed in between.
func TestDevices(t *testing.T) {
	const gpu = "example.com/gpu"
	a := prepare(t)
	root, err := os.MkdirTemp("/tmp", "dev") // paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	a.extra = append(a.extra, "--root-dir="+root)
	a.launch()
	t.Cleanup(a.stop)
	a.nodeReady()
	register := func() *devicetest.Plugin {
		p, err := devicetest.Start(t.Context(), filepath.Join(root, "device-plugins"), gpu, nil, "a", "b")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Stop)
		return p
	}
	allocatable := func(want int64) {
		a.eventually(fmt.Sprintf("the node has %d devices", want), func(ctx context.Context) error {
			n, err := client.Nodes.Get(ctx, a.api, "", nodeName)
			if err != nil {
				return err
			}
			if q := n.Status.Allocatable[gpu]; q.Value() != want {
				return fmt.Errorf("allocatable %+v", n.Status.Allocatable)
			}
			return nil
		})
	}
	wants := func(p *corev1.Pod) {
		shell(`echo "has $GPUS"; echo x > /dev/gpu && echo written; trap 'exit 0' TERM; sleep 1000 & wait`)(p)
		list := corev1.ResourceList{gpu: resource.MustParse("1")}
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Limits: list, Requests: list}
	}
	shows := func(name, device string) {
		p := a.until(name, "ready", ready)
		a.eventually(name+" has its device", func(context.Context) error { return has(a.output(p, "c", 0), "has "+device+"\nwritten\n") })
	}
	p := register()
	allocatable(2)
	a.create("first", wants)
	shows("first", "a")
	a.kill()
	p.Stop()
	a.launch()
	allocatable(0)
	p = register()
	allocatable(2)
	a.create("second", wants)
	shows("second", "b")
	a.create("third", wants)
	a.until("third", "refused", func(p *corev1.Pod) bool { return p.Status.Reason == "OutOf"+gpu })
	p.Stop()
	allocatable(0)
	a.until("first", "ready still", ready)
}
