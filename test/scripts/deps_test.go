package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDeps runs deps.sh among programs that only pretend: every case is a machine.
func TestDeps(t *testing.T) {
	for _, row := range []struct {
		name          string
		args          string
		missing       string // a package
		user          string // id -u
		installsAfter string // "": at once; "update": once the lists are fresh; "never"
		goVersion     string
		want          string // in what it says, "" for nothing
		calls         string // of apt-get
		fails         bool
	}{
		{name: "all is there", user: "1000", goVersion: "go1.26.1"},
		{name: "newer Go", user: "1000", goVersion: "go1.30"},
		{name: "a package is missing", missing: "jq", user: "0", goVersion: "go1.26.1", want: "installing jq", calls: "install jq"},
		{name: "and the lists are old", missing: "jq", user: "0", installsAfter: "update", goVersion: "go1.26.1",
			want: "installing jq", calls: "install jq,update,install jq"},
		{name: "and cannot be had", missing: "jq", user: "0", installsAfter: "never", goVersion: "go1.26.1",
			want: "could not install: jq", calls: "install jq,update,install jq", fails: true},
		{name: "and we may not", missing: "jq", user: "1000", goVersion: "go1.26.1", want: "sudo apt-get install jq", fails: true},
		{name: "only checking", args: "--check", missing: "jq", user: "0", goVersion: "go1.26.1", want: "missing Debian packages: jq", fails: true},
		{name: "old Go", user: "1000", goVersion: "go1.19.8", want: "Go 1.19.8 is too old, 1.26 or newer", fails: true},
		{name: "old release candidate", user: "1000", goVersion: "go1.25rc1", want: "too old", fails: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			pretend := func(name, script string) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			pretend("id", "echo "+row.user)
			pretend("go", "echo "+row.goVersion)
			pretend("dpkg-query", `for p; do :; done; [ "$p" = "`+row.missing+`" ] || echo installed`)
			pretend("apt-get", `
for last; do :; done
case "$*" in *update*) echo update >>`+dir+`/calls; exit 0 ;; esac
echo "install $last" >>`+dir+`/calls
case "`+row.installsAfter+`" in update) grep -q update `+dir+`/calls ;; never) exit 100 ;; esac`)

			cmd := exec.CommandContext(t.Context(), "../../scripts/deps.sh", strings.Fields(row.args)...)
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			if (err != nil) != row.fails {
				t.Errorf("it ended with %v, fails should be %v", err, row.fails)
			}
			if !strings.Contains(string(out), row.want) || row.want == "" && len(out) > 0 {
				t.Errorf("it says %q, want %q", out, row.want)
			}
			calls, _ := os.ReadFile(filepath.Join(dir, "calls")) // absent: none
			if got := strings.ReplaceAll(strings.TrimSpace(string(calls)), "\n", ","); got != row.calls {
				t.Errorf("calls of apt-get %q, want %q", got, row.calls)
			}
		})
	}
}
