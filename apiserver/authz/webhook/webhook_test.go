package webhook

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/fields"

	"hardway/apiserver/authz"
	"hardway/apiserver/request"
)

// judge is a server that answers by the verb.
type judge struct {
	asked atomic.Int32
	last  atomic.Pointer[string]
}

func (j *judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	j.asked.Add(1)
	var q authorizationv1.SubjectAccessReview
	var raw json.RawMessage
	if json.NewDecoder(r.Body).Decode(&raw) != nil || json.Unmarshal(raw, &q) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	text := string(raw)
	j.last.Store(&text)
	verb := ""
	if q.Spec.ResourceAttributes != nil {
		verb = q.Spec.ResourceAttributes.Verb
	}
	switch verb {
	case "get":
		q.Status = authorizationv1.SubjectAccessReviewStatus{Allowed: true, Reason: "reads"}
	case "delete":
		q.Status = authorizationv1.SubjectAccessReviewStatus{Denied: true, Reason: "never"}
	case "patch":
		q.Status = authorizationv1.SubjectAccessReviewStatus{Denied: true, Allowed: true}
	case "create":
		w.WriteHeader(http.StatusForbidden)
		return
	}
	json.NewEncoder(w).Encode(q) //nolint:errcheck // the client sees it
}

func made(t *testing.T, j *judge, change func(*Options)) *Authorizer {
	t.Helper()
	s := httptest.NewServer(j)
	t.Cleanup(s.Close)
	path := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("clusters: [{name: a, cluster: {server: %q}}]\ncontexts: [{name: a, context: {cluster: a}}]\ncurrent-context: a", s.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{Kubeconfig: path, Version: "v1", Allowed: time.Minute, Refused: time.Second, Timeout: time.Second}
	if change != nil {
		change(&o)
	}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var ann = &request.UserInfo{Name: "ann", UID: "7", Groups: []string{"dev"}, Extra: map[string][]string{"team": {"x"}}}

func pods(verb string) *request.Info {
	return &request.Info{IsResource: true, Verb: verb, Version: "v1", Resource: "pods", Namespace: "ns", Name: "p"}
}

func TestDecisions(t *testing.T) {
	for name, c := range map[string]struct {
		info   *request.Info
		deny   bool
		want   authz.Decision
		reason string
		err    string
	}{
		"allowed":              {pods("get"), false, authz.Allow, "reads", ""},
		"denied":               {pods("delete"), false, authz.Deny, "never", ""},
		"no opinion":           {pods("list"), false, authz.NoOpinion, "", ""},
		"both":                 {pods("patch"), false, authz.Deny, "", "both allowed and denied"},
		"broken, open":         {pods("create"), false, authz.NoOpinion, "", "the answer is 403 Forbidden"},
		"broken, then refused": {pods("create"), true, authz.Deny, "", "the answer is 403 Forbidden"},
		"a path":               {&request.Info{Path: "/metrics", Verb: "get"}, false, authz.NoOpinion, "", ""},
	} {
		a := made(t, &judge{}, func(o *Options) { o.DenyOnFailure = c.deny })
		d, reason, err := a.Authorize(t.Context(), ann, c.info)
		if d != c.want || reason != c.reason || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v %q %v", name, d, reason, err)
		}
	}
}

func TestQuestion(t *testing.T) {
	for version, want := range map[string]string{
		"v1": `{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{},"spec":{"resourceAttributes":{"namespace":"ns","verb":"list","version":"v1","resource":"pods","fieldSelector":{"requirements":[` +
			`{"key":"spec.nodeName","operator":"In","values":["n"]},{"key":"status.phase","operator":"NotIn","values":["Failed"]}]}},"user":"ann","groups":["dev"],"extra":{"team":["x"]},"uid":"7"},"status":{"allowed":false}}`,
		"v1beta1": `{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1beta1","spec":{"resourceAttributes":{"namespace":"ns","verb":"list","version":"v1","resource":"pods","fieldSelector":{"requirements":[` +
			`{"key":"spec.nodeName","operator":"In","values":["n"]},{"key":"status.phase","operator":"NotIn","values":["Failed"]}]}},"user":"ann","extra":{"team":["x"]},"uid":"7","group":["dev"]}}`,
	} {
		j := &judge{}
		a := made(t, j, func(o *Options) { o.Version = version })
		info := pods("list")
		info.Name, info.Fields = "", fields.ParseSelectorOrDie("spec.nodeName=n,status.phase!=Failed")
		if _, _, err := a.Authorize(t.Context(), ann, info); err != nil {
			t.Fatal(err)
		}
		if got := *j.last.Load(); got != want {
			t.Errorf("%s: asked\n%s\nwant\n%s", version, got, want)
		}
	}
}

func TestMemory(t *testing.T) {
	j := &judge{}
	a := made(t, j, nil)
	now := time.Unix(1e9, 0)
	a.now = func() time.Time { return now }
	ask := func(info *request.Info) int32 {
		if _, _, err := a.Authorize(t.Context(), ann, info); err != nil {
			t.Fatal(err)
		}
		return j.asked.Load()
	}
	long := pods("get")
	long.Name = strings.Repeat("x", maxQuestion)
	for i, step := range []struct {
		info  *request.Info
		after time.Duration
		want  int32
	}{
		{pods("get"), 0, 1}, {pods("get"), 0, 1}, {pods("delete"), 0, 2}, {pods("delete"), 0, 2},
		{pods("get"), 2 * time.Second, 2}, {pods("delete"), 0, 3}, {pods("get"), time.Minute, 4},
		{long, 0, 5}, {long, 0, 6},
	} {
		now = now.Add(step.after)
		if got := ask(step.info); got != step.want {
			t.Errorf("step %d: asked %d times, want %d", i, got, step.want)
		}
	}
}

func TestMatch(t *testing.T) {
	conditions := []string{"has(request.resourceAttributes)", "request.resourceAttributes.namespace == 'ns' && 'dev' in request.groups"}
	other := pods("get")
	other.Namespace = "other"
	for name, c := range map[string]struct {
		info  *request.Info
		match []string
		asked int32
		err   string
	}{
		"concerned":          {pods("get"), conditions, 1, ""},
		"another namespace":  {other, conditions, 0, ""},
		"a path":             {&request.Info{Path: "/x", Verb: "get"}, conditions, 0, ""},
		"one fails":          {pods("get"), []string{"request.extra['none'][0] == 'x'"}, 0, "no such key: none"},
		"one fails, one no":  {pods("get"), []string{"request.extra['none'][0] == 'x'", "request.user == 'bob'"}, 0, ""},
		"extra, and it fits": {pods("get"), []string{"'x' in request.extra['team']"}, 1, ""},
	} {
		j := &judge{}
		a := made(t, j, func(o *Options) { o.Match = c.match })
		_, _, err := a.Authorize(t.Context(), ann, c.info)
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) || j.asked.Load() != c.asked {
			t.Errorf("%s: %v, asked %d times", name, err, j.asked.Load())
		}
	}
	if _, err := New(Options{Version: "v1", Kubeconfig: "/none"}); err == nil {
		t.Error("a kubeconfig that is not there was read")
	}
	if _, err := New(Options{Version: "v2"}); err == nil {
		t.Error("a version that is not there was taken")
	}
}
