//go:build robustness

package robustness

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hardway/test/hardway"
	"hardway/test/machines"
)

// must runs a script on a machine of the lab; the test ends when it fails.
func must(t *testing.T, m *machines.Machine, script string) string {
	t.Helper()
	out, err := m.Run(t.Context(), script)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// TestFailover measures how long clients wait when something is gone.
func TestFailover(t *testing.T) {
	lab := cluster(t)
	load, err := StartLoad(t.Context(), admin(t, lab))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range controlPlane {
		m := lab[name]
		silence(t, load, "API server of "+name+" killed", 3*time.Second, func() { must(t, m, "systemctl kill -s KILL --kill-who=main hardway-apiserver") })
		answers(t, m)
		silence(t, load, "API server of "+name+" stopped", 3*time.Second, func() { must(t, m, "systemctl stop hardway-apiserver") })
		must(t, m, "systemctl start hardway-apiserver")
		answers(t, m)
	}
	leader, err := Leader(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	silence(t, load, "power of etcd's leader cut", 10*time.Second, func() {
		if err := leader.Cut(); err != nil {
			t.Fatal(err)
		}
	})
	if err := leader.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	answers(t, leader)
	for _, unit := range []string{"hardway-controllers", "hardway-scheduler"} {
		action(t, lab, unit, "crashed, and does not come back", 10*time.Second, "systemctl kill -s KILL --kill-who=main %[1]s; systemctl stop %[1]s")
		action(t, lab, unit, "crashed", 5*time.Second, "systemctl kill -s KILL --kill-who=main %[1]s")
		action(t, lab, unit, "stopped", 1500*time.Millisecond, "systemctl stop %[1]s")
	}
	verdict(t, lab, load)
}

// silence does something and tells how long no client got an answer.
func silence(t *testing.T, load *Load, what string, limit time.Duration, do func()) {
	t.Helper()
	from := load.History.Now()
	do()
	<-time.After(2 * limit)
	longest, _ := Silence(load.History.Ops(), from, load.History.Now())
	report(t, what+": no answer to anybody for", longest, limit)
}

func report(t *testing.T, what string, took, limit time.Duration) {
	t.Helper()
	if t.Logf("FIGURE %s %s (limit %s)", what, took.Round(10*time.Millisecond), limit); took > limit {
		t.Errorf("%s %s, more than %s", what, took.Round(10*time.Millisecond), limit)
	}
}

// answers waits until the API server of a machine is ready again, and then a little for etcd to be in balance.
func answers(t *testing.T, m *machines.Machine) {
	t.Helper()
	must(t, m, `until [ "$(curl -sk -m 1 https://127.0.0.1:6443/readyz)" = ok ]; do sleep 0.2; done; sleep 2`)
}

// action takes the leader among daemons away and measures until the next one has done something.
func action(t *testing.T, lab hardway.Lab, unit, what string, limit time.Duration, do string) {
	t.Helper()
	client := lab["client"]
	lease := map[string]string{"hardway-controllers": "kube-controller-manager", "hardway-scheduler": "kube-scheduler"}[unit]
	holder := must(t, client, "until h=$(kubectl -n kube-system get lease "+lease+" -o jsonpath={.spec.holderIdentity}) && [ -n \"$h\" ]; do sleep 0.2; done; echo $h")
	leader := lab[holder[:strings.LastIndexByte(holder, '_')]]
	begin := time.Now()
	must(t, leader, fmt.Sprintf(do, unit))
	// Both act on this: the controllers make the pod, the scheduler finds a node for it.
	wait := `kubectl create deployment next --image=hardway/hello:1 >/dev/null
until [ -n "$(kubectl get pods -l app=next -o 'jsonpath={.items[*].spec.nodeName}')" ]; do sleep 0.05; done`
	must(t, client, wait)
	report(t, fmt.Sprintf("leader of %s %s: next action after", unit, what), time.Since(begin), limit)
	must(t, leader, "systemctl start "+unit)
	must(t, client, "kubectl delete deployment next --wait=false >/dev/null; until [ -z \"$(kubectl get pods -l app=next -o name)\" ]; do sleep 0.2; done")
}

// TestRollingKills kills the daemons of one controller after the other, again and again, while clients write and watch
// through the load balancer.
func TestRollingKills(t *testing.T) {
	minutes := number(t, "MINUTES", 10)
	lab := cluster(t)
	load, err := StartLoad(t.Context(), admin(t, lab))
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(time.Duration(minutes) * time.Minute)
	for n := 0; time.Now().Before(end); n++ {
		m := lab[controlPlane[n%len(controlPlane)]]
		must(t, m, "systemctl kill -s KILL --kill-who=main hardway-apiserver hardway-controllers hardway-scheduler")
		answers(t, m)
		<-time.After(3 * time.Second)
	}
	longest, at := Silence(load.History.Ops(), 0, load.History.Now())
	report(t, fmt.Sprintf("kills of one controller after the other for %d minutes: longest time without an answer, at %s:", minutes, at.Round(time.Second)), longest, 3*time.Second)
	recovered(t, lab)
	verdict(t, lab, load)
}
