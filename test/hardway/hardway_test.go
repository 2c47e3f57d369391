//go:build hardway

package hardway

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestTheHardWay follows the page. With HARDWAY_KEEP=1 the machines stay for a quarter of an hour afterwards.
func TestTheHardWay(t *testing.T) {
	begin := time.Now()
	lab, steps, err := Start(t.Context(), FilesOf(os.Getenv))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d machines up after %.1f s", len(lab), time.Since(begin).Seconds())
	t.Cleanup(func() {
		if t.Failed() {
			for name, said := range lab.Journals(15) {
				t.Logf("%s:\n%s", name, said)
			}
		}
		if os.Getenv("HARDWAY_KEEP") != "" {
			<-time.After(15 * time.Minute)
		}
	})
	begin = time.Now()
	for _, step := range steps {
		if err := lab.Follow(t.Context(), step, t.Logf); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("the page took %.1f s", time.Since(begin).Seconds())
	if strings.HasSuffix(os.Getenv("HARDWAY_PAGE"), "the-hard-way.md") {
		exposure(t, lab)
	}
}

// exposure asks systemd how tight the sandboxes are. The limits are in tenths.
func exposure(t *testing.T, lab Lab) {
	for _, row := range []struct{ machine, unit, limit string }{
		{"controller-0", "hardway-apiserver", "20"}, {"controller-0", "hardway-controllers", "20"}, {"controller-0", "hardway-scheduler", "20"},
		{"worker-0", "hardway-dns", "20"}, {"worker-0", "hardway-netproxy", "30"},
	} {
		out, err := lab[row.machine].Run(t.Context(), "systemd-analyze security --no-pager --threshold="+row.limit+" "+row.unit+" | tail -1")
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s", strings.TrimSpace(out))
	}
}
