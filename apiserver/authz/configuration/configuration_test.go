package configuration

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"hardway/apiserver/authz/webhook"
)

const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n"

func load(t *testing.T, text string) ([]Authorizer, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path)
}

const good = `{type: Webhook, name: w, webhook: {subjectAccessReviewVersion: v1, timeout: 3s, failurePolicy: Deny, connectionInfo: {type: KubeConfigFile, kubeConfigFile: /k}}}`

func TestLoad(t *testing.T) {
	got, err := load(t, head+`
- {type: Webhook, name: first, webhook: {subjectAccessReviewVersion: v1, matchConditionSubjectAccessReviewVersion: v1, timeout: 3s, failurePolicy: Deny,
    authorizedTTL: 10s, cacheUnauthorizedRequests: false,
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: /k}, matchConditions: [{expression: has(request.resourceAttributes)}]}}
- {type: Node, name: node}
- {type: RBAC, name: rbac}
- `+good)
	if err != nil {
		t.Fatal(err)
	}
	want := []Authorizer{
		{"Webhook", "first", &webhook.Options{Kubeconfig: "/k", Version: "v1", Allowed: 10 * time.Second, Timeout: 3 * time.Second, DenyOnFailure: true, Match: []string{"has(request.resourceAttributes)"}}},
		{"Node", "node", nil}, {"RBAC", "rbac", nil},
		{"Webhook", "w", &webhook.Options{Kubeconfig: "/k", Version: "v1", Allowed: DefaultAllowed, Refused: DefaultRefused, Timeout: 3 * time.Second, DenyOnFailure: true}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		head:                                   "at least one is needed",
		"kind: A\nauthorizers: []":             "an AuthorizationConfiguration of apiserver.config.k8s.io/v1 is wanted",
		head + "- {type: RBAC, name: a, x: b}": "unknown field",
		head + "- {type: Magic, name: a}":      `authorizers[0].type: "Magic" is none of`,
		head + "- {type: RBAC, name: A_}":      `name: "A_" is not a DNS name`,
		head + "- {type: RBAC, name: a}\n- {type: RBAC, name: b}":                                             "authorizers[1].type: RBAC stands there twice",
		head + "- {type: RBAC, name: a}\n- {type: Node, name: a}":                                             `authorizers[1].name: "a" stands there twice`,
		head + "- {type: Webhook, name: a}":                                                                   "goes with the type Webhook",
		head + "- {type: RBAC, name: a, webhook: {}}":                                                         "goes with the type Webhook",
		head + "- " + strings.Replace(good, "KubeConfigFile,", "InClusterConfig,", 1):                         "there are none of here",
		head + "- " + strings.Replace(good, "/k", "k", 1):                                                     "is no absolute path",
		head + "- " + strings.Replace(good, "v1,", "v2,", 1):                                                  "is neither v1 nor v1beta1",
		head + "- " + strings.Replace(good, "Deny", "Maybe", 1):                                               "is neither Deny nor NoOpinion",
		head + "- " + strings.Replace(good, "3s", "31s", 1):                                                   "is not between 0 and 30s",
		head + "- " + strings.Replace(good, "timeout", "authorizedTTL: -1s, timeout", 1):                      "must not be negative",
		head + "- " + strings.Replace(good, "timeout", "matchConditions: [{expression: 'true'}], timeout", 1): `matchConditionSubjectAccessReviewVersion: "" is not v1`,
	} {
		if _, err := load(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v, want %q", text, err, want)
		}
	}
}
