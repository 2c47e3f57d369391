package client_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"hardway/shared/client"
	"hardway/shared/testenv"
	"hardway/shared/testenv/certs"
)

// TestRenewedCertificate: a daemon goes on under a renewed certificate, be it in the kubeconfig or in a file that this
// names; a watch that began under the old one stays up.
func TestRenewedCertificate(t *testing.T) {
	env := testenv.Start(t)
	for name, embedded := range map[string]bool{"in the kubeconfig": true, "in files": false} {
		t.Run(name, func(t *testing.T) {
			d := &identity{env: env, dir: t.TempDir(), embedded: embedded}
			d.write(t, "first")
			cfg, err := client.Config(filepath.Join(d.dir, "kubeconfig"), "test")
			if err != nil {
				t.Fatal(err)
			}
			api, err := client.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.ConfigMaps.List(t.Context(), api, "default", metav1.ListOptions{}); err != nil {
				t.Fatal(err)
			}
			watch, err := client.ConfigMaps.Watch(t.Context(), api, "default", metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer watch.Stop()

			d.write(t, "second")
			d.eventually(t, api, "second")
			// What cannot be read leaves things as they are.
			if err := os.WriteFile(filepath.Join(d.dir, "kubeconfig"), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
				if who := whoami(t, api); who != "second" {
					t.Fatalf("with a broken kubeconfig requests are those of %s", who)
				}
			}
			d.write(t, "third")
			d.eventually(t, api, "third")
			made := configMap(map[bool]string{true: "embedded", false: "files"}[embedded], nil)
			if _, err := client.ConfigMaps.Create(t.Context(), env.API(), made); err != nil {
				t.Fatal(err)
			}
			select {
			case e, ok := <-watch.ResultChan():
				if !ok || e.Type != "ADDED" {
					t.Errorf("the watch saw %v, open %v", e, ok)
				}
			case <-time.After(20 * time.Second):
				t.Error("the watch that began under the old certificate saw nothing")
			}
		})
	}
}

// identity is a kubeconfig of changing people, all of them masters.
type identity struct {
	env      *testenv.Env
	dir      string
	embedded bool // the certificate is in the kubeconfig itself
}

func (d *identity) write(t *testing.T, user string) {
	t.Helper()
	leaf, err := d.env.CA.Issue(certs.Leaf{CommonName: user, Organization: []string{"system:masters"}})
	if err != nil {
		t.Fatal(err)
	}
	c := clientcmdapi.NewConfig()
	c.Clusters["c"] = &clientcmdapi.Cluster{Server: "https://" + d.env.Address, CertificateAuthorityData: d.env.CA.PEM}
	c.AuthInfos["u"] = &clientcmdapi.AuthInfo{ClientCertificateData: leaf.CertPEM, ClientKeyData: leaf.KeyPEM}
	c.Contexts["x"], c.CurrentContext = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}, "x"
	if !d.embedded {
		c.AuthInfos["u"] = &clientcmdapi.AuthInfo{ClientCertificate: filepath.Join(d.dir, "cert"), ClientKey: filepath.Join(d.dir, "key")}
		for name, data := range map[string][]byte{"cert": leaf.CertPEM, "key": leaf.KeyPEM} {
			if err := os.WriteFile(filepath.Join(d.dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := clientcmd.WriteToFile(*c, filepath.Join(d.dir, "kubeconfig")); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until requests are those of somebody. None may fail meanwhile.
func (d *identity) eventually(t *testing.T, api *client.API, user string) {
	t.Helper()
	who := ""
	for end := time.Now().Add(20 * time.Second); who != user; who = whoami(t, api) {
		if time.Now().After(end) {
			t.Fatalf("requests are still those of %s, not of %s", who, user)
		}
	}
}

func whoami(t *testing.T, api *client.API) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api.Config().Host+"/apis/authentication.k8s.io/v1/selfsubjectreviews", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := api.HTTP().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var review authenticationv1.SelfSubjectReview
	if err := json.NewDecoder(resp.Body).Decode(&review); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("who am I: %s %v", resp.Status, err)
	}
	return review.Status.UserInfo.Username
}
