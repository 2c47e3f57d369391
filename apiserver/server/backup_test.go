package server

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"hardway/apiserver/config"
	"hardway/shared/testenv/certs"
)

// kubeconfig is a file for a client of r who may do everything.
func (r *running) kubeconfig() string {
	r.t.Helper()
	leaf, err := r.ca.Issue(certs.Leaf{CommonName: "admin", Organization: []string{"system:masters"}})
	if err != nil {
		r.t.Fatal(err)
	}
	c := clientcmdapi.NewConfig()
	c.Clusters["c"] = &clientcmdapi.Cluster{Server: "https://" + r.address, CertificateAuthorityData: r.ca.PEM}
	c.AuthInfos["u"] = &clientcmdapi.AuthInfo{ClientCertificateData: leaf.CertPEM, ClientKeyData: leaf.KeyPEM}
	c.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	c.CurrentContext = "x"
	path := filepath.Join(r.t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// 'etcd snapshot', 'status' and 'restore': a server on what was restored has what was saved, and nothing of what came
// after; a watch from before is told to begin anew.
func TestBackup(t *testing.T) {
	c, ca := files(t)
	r := start(t, c, ca)
	create := func(name string) {
		t.Helper()
		if code, body := r.send("admin", "POST", "/api/v1/namespaces/default/configmaps", `{"metadata":{"name":"`+name+`"}}`); code != http.StatusCreated {
			t.Fatalf("%d %s", code, body)
		}
	}
	create("before")
	file := filepath.Join(t.TempDir(), "etcd.db")
	tool := &tool{cfg: config.Default(), kubeconfig: r.kubeconfig(), file: file}
	if err := tool.snapshot(t.Context(), zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	if err := tool.snapshot(t.Context(), zap.NewNop()); err == nil {
		t.Error("a snapshot was overwritten")
	}
	create("after")
	_, list := r.get("admin", "/api/v1/namespaces/default/configmaps?limit=1")
	old := between(list, `"resourceVersion":"`, `"`)
	if code, _ := r.get("", snapshotPath); code != http.StatusUnauthorized {
		t.Errorf("a stranger may read a snapshot: %d", code)
	}
	tool.file = ""
	if err := tool.status(t.Context(), zap.NewNop()); err != nil {
		t.Error(err)
	}
	if code, body := r.get("", "/readyz/etcd-alarms"); code != http.StatusOK {
		t.Errorf("/readyz/etcd-alarms: %d %s", code, body)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}

	tool.file = file
	tool.cfg.Etcd.DataDir = c.Etcd.DataDir
	if err := tool.restore(t.Context(), zap.NewNop()); err == nil {
		t.Fatal("restored over data that is there")
	}
	if err := os.RemoveAll(c.Etcd.DataDir); err != nil {
		t.Fatal(err)
	}
	if err := tool.restore(t.Context(), zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	r = start(t, c, ca)
	for name, want := range map[string]int{"before": http.StatusOK, "after": http.StatusNotFound} {
		if code, body := r.get("admin", "/api/v1/namespaces/default/configmaps/"+name); code != want {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	if code, body := r.get("admin", "/api/v1/configmaps?watch=1&timeoutSeconds=1&resourceVersion="+old); code != http.StatusOK && code != http.StatusGone ||
		!strings.Contains(body, `"code":410`) {
		t.Errorf("a watch from before the restore: %d %s", code, body)
	}
}

func between(text, from, to string) string {
	_, rest, _ := strings.Cut(text, from)
	value, _, _ := strings.Cut(rest, to)
	return value
}
