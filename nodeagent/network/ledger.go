package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// ledger remembers on disk which pod has which address. Below its folder lie addresses/<ip>, holding the uid of the
// owner, pods/<uid>.json, and last, the address given out most recently. An address is taken by making its file, which
// only one can do; addresses are given out in a circle, so a freed one rests as long as possible.
type ledger struct{ dir string }

// attachment is the file of a pod.
type attachment struct {
	UID       string
	Name      string
	IP        netip.Addr
	HostPorts []HostPort `json:",omitempty"`
}

// errFull says that every address of the range is in use.
var errFull = errors.New("no free address left in the node's pod range")

func openLedger(dir string) (*ledger, error) {
	for _, d := range []string{"addresses", "pods"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("open address ledger: %w", err)
		}
	}
	return &ledger{dir}, nil
}

// usable says whether ip may be a pod's: not the network, not the bridge, not the broadcast address.
func usable(cidr netip.Prefix, ip netip.Addr) bool {
	return cidr.Contains(ip) && ip != cidr.Masked().Addr() && ip != gateway(cidr) && cidr.Contains(ip.Next())
}

// gateway is the first address of the range: the bridge's.
func gateway(cidr netip.Prefix) netip.Addr { return cidr.Masked().Addr().Next() }

// take returns the address of a pod, a new one if it has none.
func (l *ledger) take(cidr netip.Prefix, uid string) (netip.Addr, error) {
	if a, ok, err := l.pod(uid); err != nil || ok && usable(cidr, a.IP) {
		return a.IP, err
	}
	if ip, ok, err := l.owned(uid); err != nil || ok && usable(cidr, ip) {
		return ip, err
	}
	first := gateway(cidr).Next()
	ip := l.last().Next()
	if !usable(cidr, ip) {
		ip = first
	}
	for start := ip; ; {
		got, err := l.claim(ip, uid)
		if err != nil {
			return netip.Addr{}, err
		}
		if got {
			return ip, l.setLast(ip)
		}
		if ip = ip.Next(); !usable(cidr, ip) {
			ip = first
		}
		if ip == start {
			return netip.Addr{}, errFull
		}
	}
}

// claim makes the file of an address; false when somebody has it.
func (l *ledger) claim(ip netip.Addr, uid string) (bool, error) {
	f, err := os.OpenFile(l.address(ip), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("claim address %s: %w", ip, err)
	}
	_, err = f.WriteString(uid)
	return true, errors.Join(err, f.Close())
}

func (l *ledger) address(ip netip.Addr) string { return filepath.Join(l.dir, "addresses", ip.String()) }

// owned finds an address that a pod claimed before a crash kept it from being noted.
func (l *ledger) owned(uid string) (netip.Addr, bool, error) {
	var found netip.Addr
	err := l.each(func(ip netip.Addr, owner string) {
		if owner == uid {
			found = ip
		}
	})
	return found, found.IsValid(), err
}

func (l *ledger) each(f func(ip netip.Addr, owner string)) error {
	entries, err := os.ReadDir(filepath.Join(l.dir, "addresses"))
	if err != nil {
		return fmt.Errorf("read address ledger: %w", err)
	}
	for _, e := range entries {
		ip, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(l.address(ip))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read address ledger: %w", err)
		}
		f(ip, string(b))
	}
	return nil
}

// last is where the circle stands.
func (l *ledger) last() netip.Addr {
	b, err := os.ReadFile(filepath.Join(l.dir, "last"))
	if err != nil {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(strings.TrimSpace(string(b)))
	if err != nil {
		return netip.Addr{}
	}
	return ip
}

func (l *ledger) setLast(ip netip.Addr) error {
	return os.WriteFile(filepath.Join(l.dir, "last"), []byte(ip.String()), 0o600)
}

// pod reads the attachment of a pod.
func (l *ledger) pod(uid string) (attachment, bool, error) {
	var a attachment
	b, err := os.ReadFile(l.podFile(uid))
	if errors.Is(err, os.ErrNotExist) {
		return a, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	if err != nil {
		return a, false, fmt.Errorf("read attachment of pod %s: %w", uid, err)
	}
	return a, true, nil
}

func (l *ledger) podFile(uid string) string { return filepath.Join(l.dir, "pods", uid+".json") }

// note writes the attachment of a pod in one step.
func (l *ledger) note(a attachment) error {
	return writeJSON(l.podFile(a.UID), a)
}

func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// pods reads every attachment.
func (l *ledger) pods() ([]attachment, error) {
	entries, err := os.ReadDir(filepath.Join(l.dir, "pods"))
	if err != nil {
		return nil, fmt.Errorf("read attachments: %w", err)
	}
	var out []attachment
	for _, e := range entries {
		uid, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		a, ok, err := l.pod(uid)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, a)
		}
	}
	return out, nil
}

// free forgets a pod. The address goes last: until then nobody else can have it.
func (l *ledger) free(uid string) error {
	ip, owns, err := l.owned(uid)
	if err != nil {
		return err
	}
	if err := os.Remove(l.podFile(uid)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget attachment: %w", err)
	}
	if !owns {
		return nil
	}
	if err := os.Remove(l.address(ip)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("free address %s: %w", ip, err)
	}
	return nil
}
