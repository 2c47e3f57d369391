package rootca

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPlan(t *testing.T) {
	want := makePlan("ns", "bundle", nil)
	if want == nil || want.Data[dataKey] != "bundle" || want.Name != Name || want.Namespace != "ns" {
		t.Fatalf("%+v", want)
	}
	if again := makePlan("ns", "bundle", want); again != nil {
		t.Errorf("a second plan: %+v", again)
	}
	spoilt := want.DeepCopy()
	spoilt.Data["more"] = "x"
	spoilt.Labels = map[string]string{"theirs": "y"}
	if fixed := makePlan("ns", "bundle", spoilt); fixed == nil || len(fixed.Data) != 1 || fixed.Labels["theirs"] != "y" {
		t.Errorf("spoilt: %+v", fixed)
	}
}

func TestReadBundle(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.crt")
	if _, err := readBundle(file); err == nil {
		t.Error("a missing file is accepted")
	}
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readBundle(file); err == nil {
		t.Error("a file without certificate is accepted")
	}
}
