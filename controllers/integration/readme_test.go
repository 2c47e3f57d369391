package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hardway/shared/testenv"
)

// TestReadme runs the commands of the README's last section.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, try, ok := strings.Cut(string(readme), "## Try it")
	block := regexp.MustCompile("(?s)```sh\n(.*?)```").FindStringSubmatch(try)
	if !ok || block == nil {
		t.Fatal("no commands in README.md")
	}
	c := newCluster(t)
	c.start()
	c.namespace("readme") // when it has its account, the controllers work
	bin := t.TempDir()
	if err := os.Symlink(testenv.Build(t, "kubectl"), filepath.Join(bin, "kubectl")); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(block[1]) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "KUBECONFIG="+c.kubeconfig)
		out, err := cmd.CombinedOutput()
		t.Logf("$ %s%s", line, out)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
}
