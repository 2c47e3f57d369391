package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// savedFile holds the settings of the node as they were before the first change.
const savedFile = "settings.json"

func sysctlPath(name string) string { return filepath.Join("/proc/sys", name) }

// setSysctls makes the node route between pods and the world, noting what was set before.
func (l *ledger) setSysctls(bridge string) error {
	if err := l.change("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	// Pods need not be told of shorter ways: there are none. The setting goes away with the bridge.
	redirects := "net/ipv4/conf/" + bridge + "/send_redirects"
	if err := os.WriteFile(sysctlPath(redirects), []byte("0"), 0); err != nil {
		return fmt.Errorf("kernel setting %s: %w", redirects, err)
	}
	return nil
}

// change sets one kernel setting after its value has been saved.
func (l *ledger) change(name, value string) error {
	b, err := os.ReadFile(sysctlPath(name))
	if err != nil {
		return fmt.Errorf("kernel setting %s: %w", name, err)
	}
	old := strings.TrimSpace(string(b))
	if old == value {
		return nil
	}
	saved, err := l.saved()
	if err != nil {
		return err
	}
	if _, ok := saved[name]; !ok {
		saved[name] = old
		if err := writeJSON(filepath.Join(l.dir, savedFile), saved); err != nil {
			return fmt.Errorf("save kernel setting %s: %w", name, err)
		}
	}
	if err := os.WriteFile(sysctlPath(name), []byte(value), 0); err != nil {
		return fmt.Errorf("kernel setting %s: %w", name, err)
	}
	return nil
}

func (l *ledger) saved() (map[string]string, error) {
	saved := map[string]string{}
	b, err := os.ReadFile(filepath.Join(l.dir, savedFile))
	if errors.Is(err, os.ErrNotExist) {
		return saved, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &saved)
	}
	if err != nil {
		return nil, fmt.Errorf("read saved kernel settings: %w", err)
	}
	return saved, nil
}

// restoreSysctls undoes setSysctls.
func (l *ledger) restoreSysctls() error {
	saved, err := l.saved()
	errs := []error{err}
	for name, value := range saved {
		if err := os.WriteFile(sysctlPath(name), []byte(value), 0); err != nil {
			errs = append(errs, fmt.Errorf("restore kernel setting %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
