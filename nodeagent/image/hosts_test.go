package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	dir := t.TempDir()
	write := func(registry, text string) {
		t.Helper()
		at := filepath.Join(dir, registry, hostsFile)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("docker.io", `server = "https://registry-1.docker.io"
[host."http://second:5000"]
[host."https://a-first"]
  capabilities = ["pull", "resolve"]
  skip_verify = true
[host."https://push-only"]
  capabilities = ["push"]
[host."https://proxy/v2/docker"]
  override_path = true
`)
	write("bad.example", `[host."mirror"]`)
	write("_default", `[host."http://all:5000"]`)
	for registry, want := range map[string]string{
		"docker.io":   "http://second:5000 https://a-first+tls https://proxy/docker https://registry-1.docker.io origin",
		"quay.io":     "http://all:5000 https://quay.io origin",
		"bad.example": `host "mirror": want http://host or https://host`,
	} {
		list, err := endpoints(dir, registry)
		var got []string
		for _, e := range list {
			s := e.url.String()
			if e.tls != nil {
				s += "+tls"
			}
			if e.origin {
				s += " origin"
			}
			got = append(got, s)
		}
		text := strings.Join(got, " ")
		if err != nil {
			text = err.Error()
		}
		if !strings.HasSuffix(text, want) {
			t.Errorf("%s: got %q, want %q", registry, text, want)
		}
	}
	if list, err := endpoints("", "docker.io"); list != nil || err != nil {
		t.Errorf("without a directory: %v, %v", list, err)
	}
}

func FuzzHosts(f *testing.F) {
	f.Add([]byte(`server = "https://a"` + "\n" + `[host."http://b"]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseHosts(data, t.TempDir(), "r.example")
		if err == nil && (len(list) == 0 || !list[len(list)-1].origin) {
			t.Errorf("%q: the registry itself is not last", data)
		}
	})
}
