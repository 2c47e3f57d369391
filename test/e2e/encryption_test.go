//go:build e2e

package e2e

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestSecretsAtRest looks into etcd's files: a Secret is there, and not to be read.
func TestSecretsAtRest(t *testing.T) {
	u := newUser(t)
	const plain = "7hjv2-nobody-may-read-this"
	u.kubectl(t, "create secret generic kept --from-literal=k="+plain)
	if got := u.kubectl(t, "get secret kept -o go-template={{.data.k|base64decode}}"); got != plain {
		t.Errorf("read through the API: %q", got)
	}
	var sealed, open int
	err := filepath.WalkDir(filepath.Join(state, "etcd"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for rest := text; ; {
			at := bytes.Index(rest, []byte("/registry/secrets/"+u.namespace+"/kept"))
			if at < 0 {
				break
			}
			rest = rest[at+1:]
			if bytes.Contains(rest[:min(len(rest), 200)], []byte("k8s:enc:aescbc:v1:key1:")) {
				sealed++
			}
		}
		open += bytes.Count(text, []byte(plain))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if sealed == 0 || open > 0 {
		t.Errorf("in etcd's files: %d times sealed, %d times as it is", sealed, open)
	}
}
