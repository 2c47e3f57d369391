package integration

import (
	"context"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hardway/shared/client"
)

func taintKeys(node *corev1.Node) []string {
	var keys []string
	for _, t := range node.Spec.Taints {
		keys = append(keys, t.Key+":"+string(t.Effect))
	}
	slices.Sort(keys)
	return keys
}

// TestSilentNode lets one of two nodes fall silent.
func TestSilentNode(t *testing.T) {
	c := newCluster(t)
	c.start("--node-monitor-grace-period=2s")
	ns := c.namespace("silent")
	h := c.hollow(ns)
	c.register("steady-" + ns)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				c.beat("steady-" + ns)
			}
		}
	}()
	c.createPod(ns, "web", map[string]string{"app": "web"}, nil)
	tolerant := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "tolerant"}, Spec: template("v1").Spec}
	tolerant.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	if _, err := client.Pods.Create(t.Context(), c.api, tolerant); err != nil {
		t.Fatal(err)
	}
	hasty := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "hasty"}, Spec: template("v1").Spec}
	hasty.Spec.Tolerations = []corev1.Toleration{
		{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(1))},
	}
	if _, err := client.Pods.Create(t.Context(), c.api, hasty); err != nil {
		t.Fatal(err)
	}
	c.eventually("ready pods", func() string {
		for _, pod := range c.pods(ns) {
			if len(pod.Status.Conditions) == 0 || pod.Status.PodIP == "" {
				return pod.Name + " is not"
			}
		}
		return ""
	})
	c.eventually("unreachable, tainted", func() string {
		node, err := client.Nodes.Get(t.Context(), c.api, "", h.name)
		if err != nil {
			return err.Error()
		}
		want := []string{corev1.TaintNodeUnreachable + ":NoExecute", corev1.TaintNodeUnreachable + ":NoSchedule"}
		if have := taintKeys(node); !slices.Equal(have, want) {
			return fmt.Sprintf("%v, %+v", have, node.Status.Conditions)
		}
		return ""
	})
	c.eventually("the pod that stays is not ready", func() string {
		pod, err := client.Pods.Get(t.Context(), c.api, ns, "tolerant")
		if err != nil {
			return err.Error()
		}
		for _, cond := range pod.Status.Conditions {
			if cond.Type == corev1.PodReady && cond.Status == corev1.ConditionFalse {
				return ""
			}
		}
		return fmt.Sprintf("%+v", pod.Status.Conditions)
	})
	c.eventually("the one that tolerates it for a second goes", func() string { return gone(client.Pods.Get(t.Context(), c.api, ns, "hasty")) })
	if problem := found(client.Pods.Get(t.Context(), c.api, ns, "tolerant")); problem != "" {
		t.Errorf("the one that tolerates everything: %s", problem)
	}
	steady, err := client.Nodes.Get(t.Context(), c.api, "", "steady-"+ns)
	if err != nil || len(steady.Spec.Taints) != 0 {
		t.Errorf("the other node: %v, %v", err, taintKeys(steady))
	}
	c.reportReady(h.name)
	c.eventually("comes back", func() string {
		node, err := client.Nodes.Get(t.Context(), c.api, "", h.name)
		if err != nil || len(node.Spec.Taints) > 0 {
			return fmt.Sprintf("%v, %v", err, taintKeys(node))
		}
		return ""
	})
}

// beat renews the node's Lease once, and again when the next 300 ms have passed.
func (c *cluster) beat(name string) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(c.t.Context()), patience)
	defer stop()
	now := metav1.NowMicro()
	lease, err := client.Leases.Get(ctx, c.api, corev1.NamespaceNodeLease, name)
	if err != nil {
		if _, err := client.Leases.Create(ctx, c.api, newLease(name, now)); err != nil {
			c.t.Log(err)
		}
	} else {
		lease.Spec.RenewTime = &now
		if _, err := client.Leases.Update(ctx, c.api, lease); err != nil {
			c.t.Log(err)
		}
	}
	pause(ctx)
}

func TestRangesSurviveARestart(t *testing.T) {
	c := newCluster(t)
	d := c.start()
	ns := c.namespace("ranges")
	ranges := map[string]string{}
	check := func(names ...string) {
		t.Helper()
		c.eventually("ranges", func() string {
			for _, name := range names {
				node, err := client.Nodes.Get(t.Context(), c.api, "", name)
				if err != nil || node.Spec.PodCIDR == "" {
					return fmt.Sprintf("%s: %v", name, err)
				}
				ranges[name] = node.Spec.PodCIDR
			}
			return ""
		})
	}
	for i := range 3 {
		c.register(fmt.Sprintf("%s-%d", ns, i))
	}
	check(ns+"-0", ns+"-1", ns+"-2")
	d.end(9)
	c.start()
	c.register(ns + "-3")
	check(ns+"-0", ns+"-1", ns+"-2", ns+"-3")
	seen := map[string]string{}
	for name, r := range ranges {
		if other, twice := seen[r]; twice {
			t.Errorf("%s and %s both have %s", name, other, r)
		}
		seen[r] = name
	}
}

func testConditionTaints(t *testing.T, c *cluster) {
	ns := c.namespace("pressure")
	c.register(ns)
	patch := []byte(`{"status":{"conditions":[{"type":"MemoryPressure","status":"True"}]}}`)
	if _, err := client.Nodes.Patch(t.Context(), c.api, "", ns, types.StrategicMergePatchType, patch, "status"); err != nil {
		t.Fatal(err)
	}
	c.eventually("tainted", func() string {
		node, err := client.Nodes.Get(t.Context(), c.api, "", ns)
		if err != nil || !slices.Equal(taintKeys(node), []string{corev1.TaintNodeMemoryPressure + ":NoSchedule"}) {
			return fmt.Sprintf("%v, %v", err, taintKeys(node))
		}
		return ""
	})
}
