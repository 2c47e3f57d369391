//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hardway/shared/testenv"
	"hardway/shared/testenv/certs"
)

// TestAttacks is what people try who want more than is theirs. Each row is one request of somebody whose rights are known,
// and must be refused; what is not refused although it might seem so ("control") shows that the attacker could do
// something at all. Every refusal must stand in the audit log.
//
// The API server is the real one, alone: nobody's controllers and agents are needed to say no.
func TestAttacks(t *testing.T) {
	f := newFortress(t)
	for _, group := range []struct {
		name string
		rows []attack
	}{
		{"node", f.nodeAttacks()}, {"token", f.tokenAttacks()}, {"escalation", f.escalations()}, {"viewer", f.viewerAttacks()},
		{"path", f.pathTricks()}, {"header", f.headerTricks()}, {"certificate", f.certificateTricks()}, {"object", f.badObjects()},
	} {
		t.Run(group.name, func(t *testing.T) {
			for i, a := range group.rows {
				t.Run(a.name, func(t *testing.T) { f.try(t, fmt.Sprintf("%s-%d", group.name, i), a) })
			}
		})
	}
	t.Run("audit", f.audited)
}

// attack is one request. The body is YAML-free JSON; patches are merge patches.
type attack struct {
	name    string
	who     *http.Client
	headers map[string]string
	method  string
	path    string
	body    string
	want    []int // statuses; of a control, those of success
}

// fortress is an API server with some people, and something to steal.
type fortress struct {
	t        *testing.T
	e        *testenv.Env
	dir      string
	front    *certs.CA // of authenticating proxies
	admin    *http.Client
	expected map[string]int // audit id: status
}

const (
	loot      = "Y3Jvd24tamV3ZWxz" // what is in the secrets, as JSON shows it
	forbidden = http.StatusForbidden
	unknown   = http.StatusUnauthorized
)

func newFortress(t *testing.T) *fortress {
	t.Helper()
	f := &fortress{t: t, dir: t.TempDir(), expected: map[string]int{}}
	var err error
	if f.front, err = certs.NewCA("front"); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"front.pem": f.front.PEM, "sa.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		"policy.yaml": []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]"),
	} {
		if err := os.WriteFile(filepath.Join(f.dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.e = testenv.Start(t, "--service-account-signing-key-file="+f.file("sa.key"), "--requestheader-client-ca-file="+f.file("front.pem"),
		"--requestheader-allowed-names=front", "--audit-policy-file="+f.file("policy.yaml"), "--audit-log-path="+f.file("audit.log"))
	f.admin = f.user("admin", "system:masters")
	f.furnish()
	return f
}

func (f *fortress) file(name string) string { return filepath.Join(f.dir, name) }

// furnish makes what there is: two nodes with a pod each, secrets, and the rights of people.
func (f *fortress) furnish() {
	for _, ns := range []string{"town", "town2"} {
		f.make("/api/v1/namespaces", `{"metadata":{"name":%q}}`, ns)
	}
	f.make("/api/v1/namespaces", `{"metadata":{"name":"strict","labels":{"pod-security.kubernetes.io/enforce":"baseline"}}}`)
	for _, ns := range []string{"town", "strict"} {
		for _, account := range []string{"default", "robot"} {
			f.make("/api/v1/namespaces/"+ns+"/serviceaccounts", `{"metadata":{"name":%q}}`, account)
		}
	}
	for _, n := range []string{"a", "b"} {
		f.make("/api/v1/nodes", `{"metadata":{"name":"node-%s"}}`, n)
		f.make("/api/v1/namespaces/town/secrets", `{"metadata":{"name":"of-%s"},"data":{"k":%q}}`, n, loot)
		f.make("/api/v1/namespaces/town/pods", podJSON, "web-"+n, "node-"+n, "of-"+n)
		f.make("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", `{"metadata":{"name":"node-%s"}}`, n)
	}
	f.make("/api/v1/namespaces/town2/secrets", `{"metadata":{"name":"neighbour"},"data":{"k":%q}}`, loot)
	f.make("/api/v1/namespaces/strict/pods", podJSON, "calm", "node-b", "none")
	f.make("/apis/rbac.authorization.k8s.io/v1/clusterroles", `{"metadata":{"name":"roles"},"rules":[{"apiGroups":["rbac.authorization.k8s.io"],"resources":["*"],"verbs":["get","list","create","update","patch"]}]}`)
	f.make("/apis/rbac.authorization.k8s.io/v1/clusterroles", `{"metadata":{"name":"as-jane"},"rules":[{"apiGroups":[""],"resources":["users"],"resourceNames":["jane"],"verbs":["impersonate"]}]}`)
	f.make("/apis/rbac.authorization.k8s.io/v1/clusterroles", `{"metadata":{"name":"peeks"},"rules":[{"apiGroups":[""],"resources":["pods/exec","pods/attach","pods/portforward"],"verbs":["get"]}]}`)
	f.make("/apis/rbac.authorization.k8s.io/v1/clusterroles", `{"metadata":{"name":"pods"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get","list"]}]}`)
	for role, user := range map[string]string{"roles": "clerk", "as-jane": "mole"} {
		f.make("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", `{"metadata":{"name":%q},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":%q},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":%q}]}`, user, role, user)
	}
	for _, b := range [][3]string{{"town", "view", "viewer"}, {"town", "admin", "mayor"}, {"strict", "edit", "editor"}, {"town", "peeks", "peeker"}} {
		f.make("/apis/rbac.authorization.k8s.io/v1/namespaces/"+b[0]+"/rolebindings", `{"metadata":{"name":%q},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":%q},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":%q}]}`, b[2], b[1], b[2])
	}
	// Nobody aggregates roles here: what the controllers would put into them is put in by hand.
	f.send("PATCH", "/apis/rbac.authorization.k8s.io/v1/clusterroles/view", `{"rules":[{"apiGroups":[""],"resources":["pods","configmaps","services"],"verbs":["get","list","watch"]}]}`)
	f.send("PATCH", "/apis/rbac.authorization.k8s.io/v1/clusterroles/edit", `{"rules":[{"apiGroups":[""],"resources":["pods","pods/ephemeralcontainers"],"verbs":["get","list","create","update","patch","delete"]}]}`)
	f.send("PATCH", "/apis/rbac.authorization.k8s.io/v1/clusterroles/admin", `{"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}`)
}

// podJSON is a pod by name, node and the secret that it mounts.
const podJSON = `{"metadata":{"name":%q},"spec":{"nodeName":%q,"serviceAccountName":"robot","automountServiceAccountToken":false,"containers":[{"name":"c","image":"i"}],"volumes":[{"name":"v","secret":{"secretName":%q,"optional":true}}]}}`

// make creates an object as the administrator.
func (f *fortress) make(path, body string, args ...any) []byte {
	f.t.Helper()
	return f.send("POST", path, fmt.Sprintf(body, args...))
}

func (f *fortress) send(method, path, body string) []byte {
	f.t.Helper()
	code, text := f.do(f.t, f.admin, nil, method, path, body)
	if code < 200 || code > 299 {
		f.t.Fatalf("%s %s: %d %s", method, path, code, text)
	}
	return text
}

// do sends a request as it is: nothing cleans the path.
func (f *fortress) do(t *testing.T, who *http.Client, headers map[string]string, method, path, body string) (int, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "https://"+f.e.Address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	for name, value := range headers {
		for v := range strings.SplitSeq(value, "|") {
			r.Header.Add(name, v)
		}
	}
	resp, err := who.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, text
}

// try sends an attack under an audit id of its own.
func (f *fortress) try(t *testing.T, id string, a attack) {
	headers := map[string]string{"Audit-Id": id}
	for name, value := range a.headers {
		headers[name] = value
	}
	code, text := f.do(t, a.who, headers, a.method, a.path, a.body)
	if !slices.Contains(a.want, code) {
		t.Errorf("%s %s: %d, want %v\n%s", a.method, a.path, code, a.want, text)
	}
	if code >= 300 && bytes.Contains(text, []byte(loot)) {
		t.Errorf("%s %s: the loot is in the refusal", a.method, a.path)
	}
	if code == forbidden || code == unknown {
		f.expected[id] = code
	}
}

// audited finds every refusal in the audit log.
func (f *fortress) audited(t *testing.T) {
	missing := func() map[string]int {
		left := map[string]int{}
		for id, code := range f.expected {
			left[id] = code
		}
		log, err := os.Open(f.file("audit.log"))
		if err != nil {
			return left
		}
		defer log.Close()
		lines := bufio.NewScanner(log)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e struct {
				AuditID        string `json:"auditID"`
				ResponseStatus struct {
					Code int `json:"code"`
				} `json:"responseStatus"`
			}
			if json.Unmarshal(lines.Bytes(), &e) == nil && left[e.AuditID] == e.ResponseStatus.Code {
				delete(left, e.AuditID)
			}
		}
		return left
	}
	var left map[string]int
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if left = missing(); len(left) == 0 {
			t.Logf("%d refusals are in the audit log", len(f.expected))
			return
		}
	}
	t.Errorf("refusals that the audit log lacks: %v", left)
}

// user makes a client with a certificate.
func (f *fortress) user(name string, groups ...string) *http.Client {
	f.t.Helper()
	leaf, err := f.e.CA.Issue(certs.Leaf{CommonName: name, Organization: groups})
	if err != nil {
		f.t.Fatal(err)
	}
	return f.client(leaf.CertPEM, leaf.KeyPEM)
}

// client makes a client that shows a certificate, or none, and follows no redirects.
func (f *fortress) client(certPEM, keyPEM []byte) *http.Client {
	f.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(f.e.CA.PEM)
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if certPEM != nil {
		pair, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			f.t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config}
	f.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func no() []int  { return []int{forbidden} }
func yes() []int { return []int{http.StatusOK, http.StatusCreated} }

// nodeAttacks are by node-a, of which somebody has taken hold.
func (f *fortress) nodeAttacks() []attack {
	node := f.user("system:node:node-a", "system:nodes")
	const town, self = "/api/v1/namespaces/town", "/api/v1/nodes/node-a"
	row := func(name, method, path, body string) attack {
		return attack{name: name, who: node, method: method, path: path, body: body, want: no()}
	}
	control := func(name, method, path, body string) attack {
		return attack{name: "control: " + name, who: node, method: method, path: path, body: body, want: yes()}
	}
	request := func(name string) string {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			f.t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name, Organization: []string{"system:nodes"}}}, key)
		if err != nil {
			f.t.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		return fmt.Sprintf(`{"metadata":{"generateName":"n-"},"spec":{"signerName":"kubernetes.io/kube-apiserver-client-kubelet","usages":["digital signature","client auth"],"request":%q}}`, base64.StdEncoding.EncodeToString(text))
	}
	return []attack{
		control("its own pod's secret", "GET", town+"/secrets/of-a", ""),
		row("another node's secret", "GET", town+"/secrets/of-b", ""),
		row("all secrets", "GET", town+"/secrets", ""),
		row("secrets of everywhere", "GET", "/api/v1/secrets", ""),
		row("a secret through a watch by name", "GET", town+"/secrets?watch=true&fieldSelector=metadata.name%3Dof-b", ""),
		control("labels itself", "PATCH", self, `{"metadata":{"labels":{"rack":"1"}}}`),
		row("a restricted label", "PATCH", self, `{"metadata":{"labels":{"node-restriction.kubernetes.io/trusted":"yes"}}}`),
		row("a role label", "PATCH", self, `{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}`),
		row("a restricted label by its status", "PATCH", self+"/status", `{"metadata":{"labels":{"node-restriction.kubernetes.io/trusted":"yes"}}}`),
		row("its taints", "PATCH", self, `{"spec":{"taints":null}}`),
		row("its owners", "PATCH", self, `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"ghost","uid":"1"}]}}`),
		row("deletes itself", "DELETE", self, ""),
		row("another node", "PATCH", "/api/v1/nodes/node-b", `{"metadata":{"labels":{"rack":"1"}}}`),
		row("another node's status", "PATCH", "/api/v1/nodes/node-b/status", `{"status":{"capacity":{"cpu":"1k"}}}`),
		row("a new node of another name", "POST", "/api/v1/nodes", `{"metadata":{"name":"node-c"}}`),
		row("an ordinary pod", "POST", town+"/pods", fmt.Sprintf(podJSON, "new", "node-a", "of-b")),
		row("another node's pod", "PATCH", town+"/pods/web-b/status", `{"status":{"phase":"Failed"}}`),
		row("deletes another node's pod", "DELETE", town+"/pods/web-b", ""),
		row("evicts another node's pod", "POST", town+"/pods/web-b/eviction", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"web-b"}}`),
		row("its pod's labels by the status", "PATCH", town+"/pods/web-a/status", `{"metadata":{"labels":{"app":"bank"}}}`),
		row("another node's lease", "PATCH", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-b", `{"spec":{"holderIdentity":"node-a"}}`),
		row("a lease elsewhere", "POST", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases", `{"metadata":{"name":"kube-scheduler"}}`),
		row("another node's CSINode", "POST", "/apis/storage.k8s.io/v1/csinodes", `{"metadata":{"name":"node-b"},"spec":{"drivers":[]}}`),
		row("another node's devices", "POST", "/apis/resource.k8s.io/v1/resourceslices", `{"metadata":{"name":"s"},"spec":{"driver":"d.io","nodeName":"node-b","pool":{"name":"p","resourceSliceCount":1}}}`),
		row("a token of no pod", "POST", town+"/serviceaccounts/robot/token", `{"spec":{"audiences":["x"]}}`),
		row("a token of another node's pod", "POST", town+"/serviceaccounts/robot/token", fmt.Sprintf(`{"spec":{"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"web-b","uid":%q}}}`, f.uid(town+"/pods/web-b"))),
		row("a certificate of another node", "POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", request("system:node:node-b")),
		control("a certificate of its own", "POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", request("system:node:node-a")),
	}
}

func (f *fortress) uid(path string) string {
	f.t.Helper()
	var o struct {
		Metadata struct {
			UID string `json:"uid"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(f.send("GET", path, ""), &o); err != nil {
		f.t.Fatal(err)
	}
	return o.Metadata.UID
}

// token asks for a token of a service account, as the administrator.
func (f *fortress) token(account, spec string) string {
	f.t.Helper()
	var o struct {
		Status struct {
			Token string `json:"token"`
		} `json:"status"`
	}
	if err := json.Unmarshal(f.make("/api/v1/namespaces/town/serviceaccounts/"+account+"/token", `{"spec":%s}`, spec), &o); err != nil {
		f.t.Fatal(err)
	}
	return o.Status.Token
}

// tokenAttacks are by somebody who has found a token.
func (f *fortress) tokenAttacks() []attack {
	nobody := f.client(nil, nil)
	const whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
	with := func(name, token string, want []int) attack {
		return attack{name: name, who: nobody, headers: map[string]string{"Authorization": "Bearer " + token}, method: "POST", path: whoami, body: `{}`, want: want}
	}
	good := f.token("robot", `{}`)
	f.make("/api/v1/namespaces/town/pods", podJSON, "brief", "", "none")
	ofPod := f.token("robot", fmt.Sprintf(`{"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"brief","uid":%q}}`, f.uid("/api/v1/namespaces/town/pods/brief")))
	before := f.token("robot", `{}`)
	f.make("/api/v1/namespaces/town/serviceaccounts", `{"metadata":{"name":"fired"}}`)
	fired := f.token("fired", `{}`)
	f.send("DELETE", "/api/v1/namespaces/town/pods/brief?gracePeriodSeconds=0", "")
	f.send("DELETE", "/api/v1/namespaces/town/serviceaccounts/fired", "")
	parts := strings.Split(good, ".")
	header := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	signed := func(head string, key []byte) string {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(header(head) + "." + parts[1]))
		return header(head) + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		f.t.Fatal(err)
	}
	swapped := strings.ReplaceAll(string(claims), "robot", "default")
	out := []int{unknown}
	return []attack{
		with("control: a good token", good, yes()),
		with("control: another good token", before, yes()),
		with("its pod is gone", ofPod, out),
		with("its account is gone", fired, out),
		with("for somebody else", f.token("robot", `{"audiences":["vault"]}`), out),
		with("alg none", header(`{"alg":"none"}`)+"."+parts[1]+".", out),
		with("alg None with a signature", header(`{"alg":"None"}`)+"."+parts[1]+"."+parts[2], out),
		with("signed with the public key", signed(`{"alg":"HS256","typ":"JWT"}`, f.e.CA.PEM), out),
		with("claims exchanged", parts[0]+"."+header(swapped)+"."+parts[2], out),
		with("without a signature", parts[0]+"."+parts[1]+".", out),
		with("two tokens", good+"|Bearer "+before, out),
		with("nothing", "", out),
	}
}

// escalations are by people who may write roles, or act as somebody.
func (f *fortress) escalations() []attack {
	const api = "/apis/rbac.authorization.k8s.io/v1"
	clerk, mole, jane := f.user("clerk"), f.user("mole"), f.user("jane")
	all := `[{"apiGroups":[""],"resources":["secrets"],"verbs":["get"]}]`
	binding := func(kind string) string {
		return fmt.Sprintf(`{"metadata":{"name":"coup"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":%q,"apiGroup":"rbac.authorization.k8s.io","name":"clerk"}]}`, kind)
	}
	by := func(who *http.Client, name, method, path, body string, headers map[string]string, want []int) attack {
		return attack{name: name, who: who, method: method, path: path, body: body, headers: headers, want: want}
	}
	as := func(headers map[string]string) map[string]string { return headers }
	return []attack{
		by(clerk, "control: a role of what is theirs", "POST", api+"/namespaces/town/roles", `{"metadata":{"name":"r"},"rules":[{"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles"],"verbs":["get"]}]}`, nil, yes()),
		by(clerk, "a role with secrets", "POST", api+"/namespaces/town/roles", `{"metadata":{"name":"s"},"rules":`+all+`}`, nil, no()),
		by(clerk, "a role with more", "PATCH", api+"/namespaces/town/roles/r", `{"rules":`+all+`}`, nil, no()),
		by(clerk, "a cluster role with everything", "POST", api+"/clusterroles", `{"metadata":{"name":"s"},"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}`, nil, no()),
		by(clerk, "a rule about paths", "POST", api+"/clusterroles", `{"metadata":{"name":"s"},"rules":[{"nonResourceURLs":["/debug/*"],"verbs":["get"]}]}`, nil, no()),
		by(clerk, "cluster-admin for a namespace", "POST", api+"/namespaces/town/rolebindings", binding("User"), nil, no()),
		by(clerk, "cluster-admin", "POST", api+"/clusterrolebindings", binding("User"), nil, no()),
		by(clerk, "cluster-admin for all", "POST", api+"/clusterrolebindings", strings.Replace(binding("Group"), `"name":"clerk"`, `"name":"system:authenticated"`, 1), nil, no()),
		by(clerk, "somebody more into a binding", "PATCH", api+"/clusterrolebindings/cluster-admin", `{"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"clerk"}]}`, nil, no()),
		by(clerk, "an aggregated role", "POST", api+"/clusterroles", `{"metadata":{"name":"sum"},"aggregationRule":{"clusterRoleSelectors":[{}]},"rules":[]}`, nil, no()),
		by(clerk, "rules that admin aggregates", "POST", api+"/clusterroles", `{"metadata":{"name":"more","labels":{"rbac.authorization.k8s.io/aggregate-to-view":"true"}},"rules":`+all+`}`, nil, no()),
		by(clerk, "the verb escalate itself", "POST", api+"/clusterroles", `{"metadata":{"name":"up"},"rules":[{"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles"],"verbs":["escalate","bind"]}]}`, nil, no()),
		by(jane, "as the administrator", "GET", "/api/v1/secrets", "", as(map[string]string{"Impersonate-User": "admin"}), no()),
		by(jane, "as a group", "GET", "/api/v1/secrets", "", as(map[string]string{"Impersonate-User": "jane", "Impersonate-Group": "system:masters"}), no()),
		by(mole, "control: as jane", "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "{}", as(map[string]string{"Impersonate-User": "jane"}), yes()),
		by(mole, "as jane, and a master", "GET", "/api/v1/secrets", "", as(map[string]string{"Impersonate-User": "jane", "Impersonate-Group": "system:masters"}), no()),
		by(mole, "as jane with an id", "GET", "/api/v1/secrets", "", as(map[string]string{"Impersonate-User": "jane", "Impersonate-Uid": "1"}), no()),
		by(mole, "as jane with extras", "GET", "/api/v1/secrets", "", as(map[string]string{"Impersonate-User": "jane", "Impersonate-Extra-Scopes": "all"}), no()),
		by(mole, "as a service account", "GET", "/api/v1/secrets", "", as(map[string]string{"Impersonate-User": "system:serviceaccount:kube-system:robot"}), no()),
		by(mole, "a group without a user", "GET", "/api/v1/secrets", "", as(map[string]string{"Impersonate-Group": "system:masters"}), []int{http.StatusBadRequest, forbidden}),
	}
}

// viewerAttacks are by people who may only look.
func (f *fortress) viewerAttacks() []attack {
	viewer, peeker := f.user("viewer"), f.user("peeker")
	const town = "/api/v1/namespaces/town"
	upgrade := map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-Websocket-Protocol": "v5.channel.k8s.io"}
	row := func(who *http.Client, name, method, path, body string, headers map[string]string) attack {
		return attack{name: name, who: who, method: method, path: path, body: body, headers: headers, want: no()}
	}
	return []attack{
		{name: "control: a pod", who: viewer, method: "GET", path: town + "/pods/web-a", want: yes()},
		row(viewer, "a secret", "GET", town+"/secrets/of-a", "", nil),
		row(viewer, "exec", "POST", town+"/pods/web-a/exec?command=id&stdout=true", "", nil),
		row(viewer, "exec by WebSocket", "GET", town+"/pods/web-a/exec?command=id&stdout=true", "", upgrade),
		row(viewer, "attach", "POST", town+"/pods/web-a/attach", "", nil),
		row(viewer, "port-forward", "POST", town+"/pods/web-a/portforward", "", nil),
		row(viewer, "a proxy", "GET", town+"/pods/web-a/proxy/", "", nil),
		row(viewer, "a node's proxy", "GET", "/api/v1/nodes/node-a/proxy/exec/town/web-a/c?command=id", "", upgrade),
		row(viewer, "an ephemeral container", "PATCH", town+"/pods/web-a/ephemeralcontainers", `{"spec":{"ephemeralContainers":[{"name":"e","image":"i"}]}}`, nil),
		row(viewer, "a token", "POST", town+"/serviceaccounts/robot/token", `{}`, nil),
		row(viewer, "an eviction", "POST", town+"/pods/web-a/eviction", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"web-a"}}`, nil),
		row(viewer, "a binding", "POST", town+"/pods/web-a/binding", `{"target":{"kind":"Node","name":"node-b"}}`, nil),
		row(viewer, "somebody's rights", "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", `{"spec":{"user":"admin"}}`, nil),
		row(viewer, "somebody's token", "POST", "/apis/authentication.k8s.io/v1/tokenreviews", `{"spec":{"token":"x"}}`, nil),
		row(viewer, "profiles of the server", "GET", "/debug/pprof/heap", "", nil),
		row(viewer, "metrics", "GET", "/metrics", "", nil),
		row(peeker, "exec by GET with the right to get", "GET", town+"/pods/web-a/exec?command=id&stdout=true", "", upgrade),
		row(peeker, "attach by GET with the right to get", "GET", town+"/pods/web-a/attach?stdout=true", "", upgrade),
		row(peeker, "port-forward by GET with the right to get", "GET", town+"/pods/web-a/portforward?ports=80", "", upgrade),
	}
}

// pathTricks spell a path in another way, in the hope that who decides and who serves read it differently.
func (f *fortress) pathTricks() []attack {
	viewer, mayor, nobody := f.user("viewer"), f.user("mayor"), f.client(nil, nil)
	anything := []int{http.StatusMovedPermanently, http.StatusBadRequest, unknown, forbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable}
	var out []attack
	for _, path := range []string{
		"/api/v1/namespaces/town/pods/../secrets/of-b", "/api/v1/namespaces/town/pods/..%2fsecrets%2fof-b", "/api/v1/namespaces/town/pods%2f..%2fsecrets/of-b",
		"//api/v1/namespaces/town/secrets/of-b", "/api//v1/namespaces/town/secrets/of-b", "/api/v1/namespaces/town//secrets/of-b", "/API/v1/namespaces/town/secrets/of-b",
		"/api/V1/namespaces/town/secrets/of-b", "/api/v1/namespaces/town/Secrets/of-b", "/api/v1/namespaces/town/secrets/of-b/", "/api/v1/namespaces/town/secrets/./of-b",
		"/api/v1/namespaces/town/secrets%00/of-b", "/api/v1/namespaces/town;x/secrets/of-b", "/apis/../api/v1/namespaces/town/secrets/of-b", "/apis//v1/namespaces/town/secrets/of-b",
		"/api/v1/namespaces/town/%73ecrets/of-b", "/api/v1/proxy/namespaces/town/secrets/of-b", "/api/v1/watch/namespaces/town/secrets/of-b", "/api/v1/namespaces/town/pods/web-a/../../secrets/of-b",
		"/healthz/../api/v1/namespaces/town/secrets/of-b", "/livez/%2e%2e/api/v1/namespaces/town/secrets/of-b", "/readyz//../api/v1/namespaces/town/secrets/of-b", "/openapi/v2/../../api/v1/secrets",
	} {
		out = append(out,
			attack{name: "viewer " + path, who: viewer, method: "GET", path: path, want: anything},
			attack{name: "nobody " + path, who: nobody, method: "GET", path: path, want: anything})
	}
	// What belongs to no namespace is not to be had through one that is somebody's own.
	for _, path := range []string{
		"/api/v1/namespaces/town/nodes", "/api/v1/namespaces/town/nodes/node-a", "/api/v1/namespaces/town/persistentvolumes", "/apis/rbac.authorization.k8s.io/v1/namespaces/town/clusterroles",
		"/api/v1/namespaces/town/namespaces/town2", "/api/v1/namespaces/town2/secrets", "/api/v1/namespaces/town2/secrets/neighbour", "/api/v1/secrets", "/api/v1/namespaces/tow/secrets",
	} {
		out = append(out, attack{name: "mayor " + path, who: mayor, method: "GET", path: path, want: []int{forbidden, http.StatusNotFound}})
	}
	return append(out, attack{name: "control: the mayor's secrets", who: mayor, method: "GET", path: "/api/v1/namespaces/town/secrets", want: yes()})
}

// headerTricks name somebody in headers that only a proxy may send.
func (f *fortress) headerTricks() []attack {
	viewer, nobody := f.user("viewer"), f.client(nil, nil)
	front := func(ca *certs.CA, name string) *http.Client {
		leaf, err := ca.Issue(certs.Leaf{CommonName: name})
		if err != nil {
			f.t.Fatal(err)
		}
		return f.client(leaf.CertPEM, leaf.KeyPEM)
	}
	master := map[string]string{"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}
	get := func(name string, who *http.Client, headers map[string]string, want []int) attack {
		return attack{name: name, who: who, headers: headers, method: "GET", path: "/api/v1/secrets", want: want}
	}
	return []attack{
		get("control: the proxy itself", front(f.front, "front"), master, yes()),
		get("nobody", nobody, master, []int{unknown}),
		get("a user", viewer, master, no()),
		get("a user in small letters", viewer, map[string]string{"x-remote-user": "admin", "x-remote-group": "system:masters"}, no()),
		get("a user with underscores", viewer, map[string]string{"X_Remote_User": "admin", "X_Remote_Group": "system:masters"}, no()),
		get("a user twice", viewer, map[string]string{"X-Remote-User": "viewer|admin", "X-Remote-Group": "system:masters"}, no()),
		get("a user called front", front(f.e.CA, "front"), master, no()),
		get("another certificate of the proxies' CA", front(f.front, "back"), master, []int{unknown}),
		get("the proxy without a user", front(f.front, "front"), map[string]string{"X-Remote-Group": "system:masters"}, []int{unknown}),
		get("a password in a token's place", nobody, map[string]string{"Authorization": "Basic YWRtaW46YWRtaW4="}, []int{unknown}),
	}
}

// certificateTricks show certificates that are not good, all for system:masters.
func (f *fortress) certificateTricks() []attack {
	block, _ := pem.Decode(f.e.CA.PEM)
	parent, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		f.t.Fatal(err)
	}
	block, _ = pem.Decode(f.e.CA.KeyPEM)
	parentKey, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		f.t.Fatal(err)
	}
	with := func(change func(*x509.Certificate), by *ecdsa.PrivateKey) *http.Client {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			f.t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		change(c)
		if by == nil {
			by = key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
		if err != nil {
			f.t.Fatal(err)
		}
		keyDER, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			f.t.Fatal(err)
		}
		return f.client(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}))
	}
	other, err := certs.NewCA("testenv-ca") // of the same name
	if err != nil {
		f.t.Fatal(err)
	}
	stranger, err := other.Issue(certs.Leaf{CommonName: "admin", Organization: []string{"system:masters"}})
	if err != nil {
		f.t.Fatal(err)
	}
	get := func(name string, who *http.Client, want []int) attack {
		return attack{name: name, who: who, method: "GET", path: "/api/v1/secrets", want: want}
	}
	out := []int{unknown}
	return []attack{
		get("control: a good one", with(func(*x509.Certificate) {}, parentKey), yes()),
		get("expired", with(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, parentKey), out),
		get("not yet valid", with(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, parentKey), out),
		get("for servers", with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, parentKey), out),
		get("without a name", with(func(c *x509.Certificate) { c.Subject.CommonName = "" }, parentKey), out),
		get("of another CA with the same name", f.client(stranger.CertPEM, stranger.KeyPEM), out),
	}
}

// badObjects are sent by people who may write, and must not be stored.
func (f *fortress) badObjects() []attack {
	editor, mayor := f.user("editor"), f.user("mayor")
	const strict, town = "/api/v1/namespaces/strict", "/api/v1/namespaces/town"
	bad := []int{http.StatusUnprocessableEntity, http.StatusBadRequest, forbidden}
	row := func(who *http.Client, name, method, path, body string, want []int) attack {
		return attack{name: name, who: who, method: method, path: path, body: body, want: want}
	}
	privileged := `{"metadata":{"name":"p"},"spec":{"serviceAccountName":"robot","containers":[{"name":"c","image":"i","securityContext":{"privileged":true}}]}}`
	rows := []attack{
		row(editor, "control: a calm pod", "GET", strict+"/pods/calm", "", yes()),
		row(editor, "a privileged pod", "POST", strict+"/pods", privileged, no()),
		row(editor, "a privileged ephemeral container", "PATCH", strict+"/pods/calm/ephemeralcontainers", `{"spec":{"ephemeralContainers":[{"name":"e","image":"i","securityContext":{"privileged":true}}]}}`, no()),
	}
	for _, address := range []string{"127.0.0.1", "169.254.169.254", "224.0.0.1", "::1"} {
		rows = append(rows, row(mayor, "endpoints at "+address, "POST", town+"/endpoints", fmt.Sprintf(`{"metadata":{"name":"e"},"subsets":[{"addresses":[{"ip":%q}],"ports":[{"port":80}]}]}`, address), bad))
		family := "IPv4"
		if strings.Contains(address, ":") {
			family = "IPv6"
		}
		rows = append(rows, row(mayor, "a slice at "+address, "POST", "/apis/discovery.k8s.io/v1/namespaces/town/endpointslices",
			fmt.Sprintf(`{"metadata":{"name":"e"},"addressType":%q,"endpoints":[{"addresses":[%q]}],"ports":[]}`, family, address), bad))
	}
	// A pod that says it is at the server's own address is no way to the server.
	f.send("PATCH", town+"/pods/web-b/status", `{"status":{"podIP":"127.0.0.1","podIPs":[{"ip":"127.0.0.1"}]}}`)
	_, port, _ := strings.Cut(f.e.Address, ":")
	unreached := []int{http.StatusBadRequest, forbidden, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusInternalServerError}
	return append(rows,
		row(mayor, "a proxy to the server itself", "GET", town+"/pods/https:web-b:"+port+"/proxy/version", "", unreached),
		row(mayor, "a proxy to a service that is none", "GET", town+"/services/https:kubernetes:"+port+"/proxy/", "", []int{http.StatusNotFound, http.StatusServiceUnavailable, forbidden}))
}
