package review

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// serve starts a server and returns the kubeconfig that finds it.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewTLSServer(handler)
	t.Cleanup(s.Close)
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	path := filepath.Join(dir, "config")
	text := fmt.Sprintf(`
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: %q, certificate-authority: ca.pem}}]
users: [{name: a, user: {token: secret}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a`, s.URL+"/judge")
	for file, data := range map[string][]byte{"ca.pem": ca, "config": []byte(text)} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestAsk(t *testing.T) {
	for name, c := range map[string]struct {
		answers []string // one for each attempt: a status, or a body
		asked   int32
		want    string
	}{
		"at once":               {[]string{`{"yes":true}`}, 1, ""},
		"in trouble, then well": {[]string{"500", "429", `{"yes":true}`}, 3, ""},
		"always in trouble":     {[]string{"503", "503", "503", "503", "503", "503"}, 5, "the answer is 503 Service Unavailable"},
		"refused":               {[]string{"403"}, 1, "the answer is 403 Forbidden"},
		"elsewhere":             {[]string{"302"}, 1, "the answer is 302 Found"},
		"not JSON":              {[]string{"hello"}, 1, "the answer cannot be read"},
		"too long":              {[]string{strings.Repeat("x", maxAnswer+1)}, 1, "it is over 1048576 bytes long"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			client, err := Open(serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer secret" || r.URL.String() != "/judge" || r.Method != http.MethodPost {
					t.Errorf("%s %s by %q", r.Method, r.URL, r.Header.Get("Authorization"))
				}
				text, code := c.answers[asked.Add(1)-1], 0
				if _, err := fmt.Sscanf(text, "%3d", &code); err == nil {
					w.Header().Set("Location", "/elsewhere")
					w.WriteHeader(code)
					return
				}
				fmt.Fprint(w, text)
			}), time.Nanosecond, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			var answer struct{ Yes bool }
			err = client.Ask(t.Context(), map[string]string{"a": "b"}, &answer)
			if c.want == "" && (err != nil || !answer.Yes) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, %v, want %q", answer, err, c.want)
			}
			if asked.Load() != c.asked {
				t.Errorf("asked %d times, want %d", asked.Load(), c.asked)
			}
		})
	}
}

func TestAskEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client, err := Open(serve(t, func(w http.ResponseWriter, _ *http.Request) {
		cancel()
		w.WriteHeader(http.StatusInternalServerError)
	}), time.Hour, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Ask(ctx, 1, new(int)); err == nil {
		t.Error("no error")
	}
}

func TestOpen(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none"), 0, 0); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAnswers[string](2)
		ask := func(q string) string {
			v, _ := a.Get([]byte(q), time.Now())
			return v
		}
		a.Add([]byte("a"), "1", time.Now().Add(time.Second))
		a.Add([]byte("b"), "2", time.Now().Add(time.Minute))
		if ask("a") != "1" || ask("b") != "2" || ask("c") != "" {
			t.Error("not what was said")
		}
		time.Sleep(time.Second)
		if ask("a") != "" || ask("b") != "2" {
			t.Error("not after a second")
		}
		a.Add([]byte("c"), "3", time.Now().Add(time.Minute))
		a.Add([]byte("d"), "4", time.Now().Add(time.Minute))
		if ask("b") != "" || ask("c") != "3" || ask("d") != "4" {
			t.Error("more than two are remembered")
		}
	})
}
