package robustness

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hardway/test/hardway"
	"hardway/test/machines"
)

// injector does a fault and returns what puts it right; nil when nothing must be.
type injector func(ctx context.Context, lab hardway.Lab, f Fault) (heal func(context.Context) error, err error)

var injectors = map[string]injector{
	"kill -9":                       script("systemctl kill --signal=KILL --kill-who=main %[1]s", ""),
	"clean stop":                    script("systemctl stop %[1]s", "systemctl start --no-block %[1]s"),
	"pause":                         script("systemctl kill --signal=STOP --kill-who=main %[1]s", "systemctl kill --signal=CONT --kill-who=main %[1]s"),
	"out of memory":                 script("systemctl set-property --runtime %[1]s MemoryMax=24M", "systemctl set-property --runtime %[1]s MemoryMax=infinity"),
	"power cut":                     power,
	"all power cut":                 allPower,
	"cable pulled":                  cable,
	"cable of etcd's leader pulled": leadersCable,
	"partition":                     partition,
	"one-way partition":             oneWay,
	"half of the packets lost":      loss,
	"slow disk":                     slowDisk,
	// What root's reserve and the rest of a block leave is filled byte by byte.
	"full disk":               script("dd if=/dev/zero of=/var/lib/hardway/filler bs=1M status=none || dd if=/dev/zero of=/var/lib/hardway/rest bs=512 status=none || true", "rm -f /var/lib/hardway/filler /var/lib/hardway/rest"),
	"compaction":              compaction,
	"certificate replaced":    newCertificate,
	"load balancer restarted": on("lb", "systemctl restart nginx"),
}

// script runs one on the fault's machine, and another to put it right. %[1]s is the unit.
func script(do, undo string) injector {
	return func(ctx context.Context, lab hardway.Lab, f Fault) (func(context.Context) error, error) {
		run := func(ctx context.Context, text string) error {
			if strings.Contains(text, "%[1]s") {
				text = fmt.Sprintf(text, f.Unit)
			}
			_, err := lab[f.Machine].Run(ctx, text)
			return err
		}
		if undo == "" {
			return nil, run(ctx, do)
		}
		return func(ctx context.Context) error { return run(ctx, undo) }, run(ctx, do)
	}
}

// on runs a script on a machine that is always the same.
func on(machine, do string) injector {
	return func(ctx context.Context, lab hardway.Lab, _ Fault) (func(context.Context) error, error) {
		_, err := lab[machine].Run(ctx, do)
		return nil, err
	}
}

func power(_ context.Context, lab hardway.Lab, f Fault) (func(context.Context) error, error) {
	return lab[f.Machine].Start, lab[f.Machine].Cut()
}

// allPower cuts the power of all controllers and workers.
func allPower(_ context.Context, lab hardway.Lab, _ Fault) (func(context.Context) error, error) {
	cluster := hardway.Lab{}
	for name, m := range lab {
		if name != "client" && name != "lb" {
			cluster[name] = m
		}
	}
	return func(ctx context.Context) error {
		return cluster.Each(func(m *machines.Machine) error { return m.Start(ctx) })
	}, cluster.Each(func(m *machines.Machine) error { return m.Cut() })
}

func cable(ctx context.Context, lab hardway.Lab, f Fault) (func(context.Context) error, error) {
	return lab[f.Machine].Plug, lab[f.Machine].Unplug(ctx)
}

func partition(ctx context.Context, lab hardway.Lab, f Fault) (func(context.Context) error, error) {
	a, b := lab[f.Machine], lab[f.Other]
	return func(ctx context.Context) error { return errors.Join(a.Heal(ctx), b.Heal(ctx)) }, errors.Join(a.Mute(ctx, b.IP), b.Mute(ctx, a.IP))
}

func oneWay(ctx context.Context, lab hardway.Lab, f Fault) (func(context.Context) error, error) {
	return lab[f.Machine].Heal, lab[f.Machine].Mute(ctx, lab[f.Other].IP)
}

func loss(ctx context.Context, lab hardway.Lab, f Fault) (func(context.Context) error, error) {
	return lab[f.Machine].Heal, lab[f.Machine].Lose(ctx, 50)
}

func slowDisk(_ context.Context, lab hardway.Lab, f Fault) (func(context.Context) error, error) {
	return func(context.Context) error { return lab[f.Machine].SlowDisk(0) }, lab[f.Machine].SlowDisk(20)
}

// etcdctl is the beginning of a command line on a controller.
const etcdctl = "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/hardway/pki/ca.pem --cert=/etc/hardway/pki/kubernetes.pem --key=/etc/hardway/pki/kubernetes-key.pem "

// Leader finds the controller whose etcd member leads.
func Leader(ctx context.Context, lab hardway.Lab) (*machines.Machine, error) {
	var last error
	for name, m := range lab {
		if !strings.HasPrefix(name, "controller-") {
			continue
		}
		out, err := m.Run(ctx, etcdctl+"endpoint status -w json | jq -e '.[0].Status | .leader == .header.member_id'")
		if err == nil && strings.TrimSpace(out) == "true" {
			return m, nil
		}
		last = err
	}
	return nil, fmt.Errorf("no controller's etcd says that it leads: %w", last)
}

func leadersCable(ctx context.Context, lab hardway.Lab, _ Fault) (func(context.Context) error, error) {
	m, err := Leader(ctx, lab)
	if err != nil {
		return nil, err
	}
	return m.Plug, m.Unplug(ctx)
}

// compaction drops all history but the newest revision, under the watchers.
func compaction(ctx context.Context, lab hardway.Lab, _ Fault) (func(context.Context) error, error) {
	m, err := Leader(ctx, lab)
	if err != nil {
		return nil, err
	}
	_, err = m.Run(ctx, etcdctl+"compact $("+etcdctl+"endpoint status -w json | jq '.[0].Status.header.revision')")
	return nil, err
}

// newCertificate gives a controller's API server a new leaf while it runs.
func newCertificate(ctx context.Context, lab hardway.Lab, f Fault) (func(context.Context) error, error) {
	_, err := lab["client"].Run(ctx, fmt.Sprintf(`rm -f pki/kubernetes.pem
addresses=(); for a in 10.240.0.10 10.240.0.11 10.240.0.12 10.240.0.9 lb; do addresses+=(--address $a); done
hardway/scripts/certs.sh "${addresses[@]}" pki
ssh %[1]s mkdir -p -m 700 new
scp pki/kubernetes.pem pki/kubernetes-key.pem %[1]s:new/
ssh %[1]s 'cd new && chown hardway-apiserver: *-key.pem && chmod 400 *-key.pem && mv kubernetes-key.pem kubernetes.pem /etc/hardway/pki/'`, f.Machine))
	return nil, err
}
