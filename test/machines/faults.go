package machines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Cut takes the power away: all processes end at once.
func (m *Machine) Cut() error {
	if err := syscall.Kill(m.init, syscall.SIGKILL); err != nil {
		return fmt.Errorf("cut the power of %s: %w", m.Name, err)
	}
	<-m.done
	return nil
}

// Link is the name of the bridge's port that leads to the machine.
func (m *Machine) Link() string { return "vb-" + m.Name }

// Unplug pulls the machine's network cable, Plug puts it back.
func (m *Machine) Unplug(ctx context.Context) error {
	return command(ctx, "ip", "link", "set", m.Link(), "down")
}

// Plug puts the cable back.
func (m *Machine) Plug(ctx context.Context) error {
	return command(ctx, "ip", "link", "set", m.Link(), "up")
}

// Mute drops what the machine sends to some addresses, or to everybody; it still hears them.
func (m *Machine) Mute(ctx context.Context, to ...string) error {
	if len(to) == 0 {
		return m.filter(ctx, "drop")
	}
	return m.filter(ctx, "ip daddr { "+strings.Join(to, ", ")+" } drop")
}

// Lose drops some of the packets that the machine sends.
func (m *Machine) Lose(ctx context.Context, percent int) error {
	return m.filter(ctx, fmt.Sprintf("numgen random mod 100 < %d drop", percent))
}

// filter puts a rule on what comes from the machine.
func (m *Machine) filter(ctx context.Context, rule string) error {
	table := m.table()
	text := fmt.Sprintf("table netdev %s { chain sent { type filter hook ingress device %q priority 0; %s; } }\n", table, m.Link(), rule)
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("filter what %s sends: %w: %s", m.Name, err, out)
	}
	return nil
}

func (m *Machine) table() string { return "faults-" + m.Name }

// Heal ends Mute and Lose.
func (m *Machine) Heal(ctx context.Context) error {
	return command(ctx, "nft", "delete", "table", "netdev", m.table())
}

// SlowDisk lets the machine write a number of blocks a second to its disk of data; 0 is as many as it can.
func (m *Machine) SlowDisk(perSecond int) error {
	var st syscall.Stat_t
	if err := syscall.Stat(m.path(dataDisk), &st); err != nil {
		return err
	}
	device := fmt.Sprintf("%d:%d", st.Dev>>8&0xfff, st.Dev&0xff|st.Dev>>12&0xfff00)
	set := 0
	// Every cgroup of the machine: a limit does not hold for those below on v1 where hierarchies are not shared.
	err := filepath.WalkDir(filepath.Join("/sys/fs/cgroup/blkio", m.cgroup()), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Name() != "blkio.throttle.write_iops_device" {
			return err
		}
		set++
		return os.WriteFile(path, fmt.Appendf(nil, "%s %d", device, perSecond), 0o644)
	})
	if err == nil && set == 0 {
		err = errors.New("no cgroup takes a limit")
	}
	if err != nil {
		return fmt.Errorf("slow down the disk of %s: %w", m.Name, err)
	}
	return nil
}

func (m *Machine) cgroup() string { return "lab-" + m.Name }
