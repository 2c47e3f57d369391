package hook

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"hardway/nodeagent/probe"
)

func TestExec(t *testing.T) {
	target := Target{Pod: &corev1.Pod{}, Container: &corev1.Container{}}
	run := func(code int, err error) error {
		return Run(t.Context(), &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}, target,
			func(_ context.Context, _ types.UID, _ string, _ []string, out io.Writer) (int, error) {
				io.WriteString(out, strings.Repeat("long", 10_000)) //nolint:errcheck // it never fails
				return code, err
			})
	}
	if err := run(0, nil); err != nil {
		t.Error(err)
	}
	if err := run(2, nil); err == nil || !strings.Contains(err.Error(), "exited with 2") || len(err.Error()) > 2*probe.MaxOutput {
		t.Errorf("%d characters: %.60v", len(err.Error()), err)
	}
	if err := run(0, io.ErrUnexpectedEOF); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

func TestHTTP(t *testing.T) {
	asked := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path
		w.WriteHeader(http.StatusInternalServerError) // any answer will do
	}))
	defer srv.Close()
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	target := Target{Pod: &corev1.Pod{}, Container: &corev1.Container{}, IP: "127.0.0.1"}
	for _, scheme := range []corev1.URIScheme{corev1.URISchemeHTTP, corev1.URISchemeHTTPS} { // HTTPS falls back
		asked = ""
		h := &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/stop", Port: intstr.FromInt(port), Scheme: scheme}}
		if err := Run(t.Context(), h, target, nil); err != nil || asked != "/stop" {
			t.Errorf("%s: %v, asked for %q", scheme, err, asked)
		}
	}
	srv.Close()
	if err := Run(t.Context(), &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt(port)}}, target, nil); err == nil {
		t.Error("nobody listens")
	}
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		h := &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 7}}
		if err := Run(t.Context(), h, Target{}, nil); err != nil || time.Since(began) != 7*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := Run(ctx, h, Target{}, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
	if err := Run(t.Context(), &corev1.LifecycleHandler{}, Target{}, nil); err == nil {
		t.Error("a hook without an action was run")
	}
}
