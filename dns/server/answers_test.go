package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"

	"hardway/dns/config"
	"hardway/dns/zone"
)

// TestReload changes the file: what is right comes into force, what is wrong does not.
func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Corefile")
	written := time.Now()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		written = written.Add(time.Second)
		if err := os.Chtimes(path, written, written); err != nil {
			t.Fatal(err)
		}
	}
	main := func(lines string) string {
		return ". {\nkubernetes cluster.local {\n" + lines + "\n}\nforward . 192.0.2.1\n}\n"
	}
	cfg := config.Default()
	cfg.Listen, cfg.File = "127.0.0.1", path
	reg, log := prometheus.NewRegistry(), zaptest.NewLogger(t)
	names := newNames("cluster.local", reg, log)

	write("rubbish")
	if _, err := newAnswers(cfg, names, prometheus.NewRegistry(), log); err == nil {
		t.Fatal("started with a file that is wrong")
	}
	write(main("ttl 7"))
	a, err := newAnswers(cfg, names, reg, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	for _, step := range []struct {
		name, text, refused string
		ttl                 uint32
		pods                zone.PodRecords
		zones               int
	}{
		{"the same", main("ttl 7"), "", 7, zone.PodsInsecure, 1},
		{"another TTL", main("ttl 9\npods disabled"), "", 9, zone.PodsOff, 1},
		{"a mistake", main("tll 1"), "tll", 9, zone.PodsOff, 1},
		{"pods that are not watched", main("pods verified"), "restart", 9, zone.PodsOff, 1},
		{"another port", ". {\nkubernetes cluster.local\nready :9999\n}", "restart", 9, zone.PodsOff, 1},
		{"a stub domain", main("ttl 9") + "corp.example {\nforward . 192.0.2.2\n}", "", 9, zone.PodsInsecure, 2},
		{"authorities that are not there", main("ttl 5") + "corp.example {\nforward . tls://192.0.2.2 {\ntls /nowhere.pem\n}\n}", "authorities", 9, zone.PodsInsecure, 2},
	} {
		t.Run(step.name, func(t *testing.T) {
			write(step.text)
			err := a.reload()
			if (err == nil) != (step.refused == "") || err != nil && !strings.Contains(err.Error(), step.refused) {
				t.Errorf("got %v, want %q", err, step.refused)
			}
			if says := names.zone.Load().Says; says.TTL != step.ttl || says.Pods != step.pods || len(a.routes) != step.zones {
				t.Errorf("in force are %+v and %d forwards", says, len(a.routes))
			}
			if err := a.reload(); err != nil {
				t.Errorf("the same file read twice: %v", err)
			}
		})
	}
}
