package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"hardway/nodeagent/plan"
)

// patient is a container whose exec probes answer as a test says.
type patient struct {
	mu     sync.Mutex
	code   map[string]int // by command; -1: does not answer
	asked  map[string]int
	events []string
}

func (p *patient) exec(ctx context.Context, _ types.UID, _ string, cmd []string) (int, string, error) {
	p.mu.Lock()
	code := p.code[cmd[0]]
	p.asked[cmd[0]]++
	p.mu.Unlock()
	if code < 0 {
		<-ctx.Done()
		return 0, "", ctx.Err()
	}
	return code, "output", nil
}

func (p *patient) note(_ *corev1.Pod, _ *corev1.Container, _, reason, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, reason+": "+fmt.Sprintf(format, args...))
}

func (p *patient) set(cmd string, code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.code[cmd] = code
}

// times is how often a command has been run.
func (p *patient) times(cmd string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[cmd]
}

func exec(cmd string, period, failures int32) *corev1.Probe {
	return &corev1.Probe{PeriodSeconds: period, FailureThreshold: failures, TimeoutSeconds: 1, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{cmd}}}}
}

// watchOne runs f while a container with these probes is watched, in a bubble of its own time.
func watchOne(t *testing.T, c *corev1.Container, target Target, codes map[string]int, f func(p *patient, health func() plan.Health, pr *Prober)) *patient {
	t.Helper()
	p := &patient{code: codes, asked: map[string]int{}}
	synctest.Test(t, func(t *testing.T) {
		pr := New(p.exec, p.note, func(types.UID) {}, zap.NewNop())
		target.Pod, target.Container, target.ID, target.StartedAt = &corev1.Pod{}, c, "id", time.Now()
		target.Pod.UID = "u"
		pr.Watch(target)
		f(p, func() plan.Health { synctest.Wait(); h, _ := pr.Health("id"); return h }, pr)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := pr.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestWithoutProbes(t *testing.T) {
	watchOne(t, &corev1.Container{}, Target{}, nil, func(_ *patient, health func() plan.Health, _ *Prober) {
		if h := health(); h != (plan.Health{Started: true, Ready: true}) {
			t.Errorf("%+v", h)
		}
	})
}

func TestReadiness(t *testing.T) {
	c := &corev1.Container{ReadinessProbe: exec("r", 2, 3)}
	c.ReadinessProbe.SuccessThreshold, c.ReadinessProbe.InitialDelaySeconds = 2, 5
	watchOne(t, c, Target{}, map[string]int{}, func(p *patient, health func() plan.Health, _ *Prober) {
		time.Sleep(4 * time.Second)
		if health(); p.times("r") != 0 {
			t.Error("asked before the initial delay")
		}
		time.Sleep(2 * time.Second)
		if health().Ready {
			t.Error("ready after one success of two")
		}
		time.Sleep(2 * time.Second)
		if !health().Ready {
			t.Error("not ready after two")
		}
		p.set("r", 1)
		time.Sleep(4 * time.Second)
		if !health().Ready {
			t.Error("not ready after two failures of three")
		}
		time.Sleep(2 * time.Second)
		if health().Ready {
			t.Error("ready after three failures")
		}
	})
}

func TestReadyStaysOverARestartOfTheAgent(t *testing.T) {
	watchOne(t, &corev1.Container{ReadinessProbe: exec("r", 1, 3)}, Target{WasStarted: true, WasReady: true}, map[string]int{"r": 1}, func(_ *patient, health func() plan.Health, _ *Prober) {
		if !health().Ready {
			t.Error("not ready before anything was probed")
		}
		time.Sleep(1500 * time.Millisecond)
		if !health().Ready {
			t.Error("one failure is not three")
		}
		time.Sleep(3 * time.Second)
		if health().Ready {
			t.Error("three failures are")
		}
	})
}

func TestLivenessAndTimeout(t *testing.T) {
	p := watchOne(t, &corev1.Container{LivenessProbe: exec("l", 10, 2)}, Target{}, map[string]int{"l": -1}, func(_ *patient, health func() plan.Health, _ *Prober) {
		time.Sleep(5 * time.Second)
		if health().NotLive {
			t.Error("dead after one timeout of two")
		}
		time.Sleep(10 * time.Second)
		if !health().NotLive {
			t.Error("alive after two")
		}
	})
	if len(p.events) != 2 || p.events[0] != `Unhealthy: Liveness probe failed: command timed out: ["l"] timed out after 1s` {
		t.Errorf("events %q", p.events)
	}
}

func TestStartupComesFirst(t *testing.T) {
	c := &corev1.Container{StartupProbe: exec("s", 1, 5), LivenessProbe: exec("l", 1, 1), ReadinessProbe: exec("r", 1, 1)}
	watchOne(t, c, Target{}, map[string]int{"s": 1, "l": 1}, func(p *patient, health func() plan.Health, _ *Prober) {
		time.Sleep(2500 * time.Millisecond)
		if h := health(); h != (plan.Health{}) || p.times("l")+p.times("r") != 0 {
			t.Errorf("%+v", h)
		}
		p.set("s", 0)
		p.set("l", 0)
		time.Sleep(time.Second)
		if h := health(); !h.Started || !h.Ready || h.NotLive {
			t.Errorf("%+v", h)
		}
		asked := p.times("s")
		time.Sleep(5 * time.Second)
		if health(); p.times("s") != asked {
			t.Error("the startup probe goes on after it has passed")
		}
	})
	watchOne(t, c, Target{}, map[string]int{"s": 1}, func(_ *patient, health func() plan.Health, _ *Prober) {
		time.Sleep(10 * time.Second)
		if !health().StartupFailed {
			t.Error("it never gave up")
		}
	})
}

func TestStopping(t *testing.T) {
	c := &corev1.Container{LivenessProbe: exec("l", 1, 1), ReadinessProbe: exec("r", 1, 1)}
	watchOne(t, c, Target{}, map[string]int{}, func(p *patient, health func() plan.Health, pr *Prober) {
		time.Sleep(1500 * time.Millisecond)
		pr.Calm("u")
		p.set("l", 1)
		p.set("r", 1)
		time.Sleep(5 * time.Second)
		if h := health(); h.NotLive || h.Ready {
			t.Errorf("a pod that stops is not killed for its liveness, but not ready either: %+v", h)
		}
		pr.Keep("u", map[string]bool{"id": true})
		if _, ok := pr.Health("id"); !ok {
			t.Error("Keep ended what was to be kept")
		}
		pr.Keep("u", nil)
		asked := p.times("r")
		time.Sleep(5 * time.Second)
		if synctest.Wait(); p.times("r") != asked {
			t.Error("probed after the end")
		}
	})
}

func TestHTTP(t *testing.T) {
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/headers":
			if r.Host != "named" || r.Header.Get("X-A") != "1" || r.UserAgent() != agent {
				w.WriteHeader(http.StatusTeapot)
			}
		case "/local":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/away":
			u, _ := url.Parse(elsewhere.URL)
			http.Redirect(w, r, "http://localhost:"+u.Port()+"/", http.StatusFound)
		case "/slow":
			<-r.Context().Done()
		case "/bad":
			w.WriteHeader(http.StatusInternalServerError)
		}
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
	target := Target{IP: "127.0.0.1", Container: &corev1.Container{Name: "c", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(port)}}}}
	for path, want := range map[string]string{
		"/ok": "ok", "ok": "ok", "/ok?x=1": "ok", "/headers": "ok", "/local": "ok", "/away": "warning", "/bad": "HTTP probe failed with statuscode: 500", "/slow": "context deadline exceeded",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		r := checkHTTP(ctx, target, &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("web"),
			HTTPHeaders: []corev1.HTTPHeader{{Name: "Host", Value: "named"}, {Name: "X-A", Value: "1"}}})
		cancel()
		got := r.output
		switch {
		case r.err != nil:
			got = r.err.Error()
		case r.warning != "":
			got = "warning"
		case r.ok:
			got = "ok"
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if r := checkHTTP(t.Context(), target, &corev1.HTTPGetAction{Port: intstr.FromString("none")}); r.err == nil {
		t.Errorf("a port that has no name: %+v", r)
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	target := Target{IP: "127.0.0.1", Container: &corev1.Container{}}
	if r := checkTCP(t.Context(), target, &corev1.TCPSocketAction{Port: intstr.FromInt(port)}); !r.ok {
		t.Errorf("%+v", r)
	}
	l.Close()
	if r := checkTCP(t.Context(), target, &corev1.TCPSocketAction{Port: intstr.FromInt(port)}); r.ok || r.output == "" {
		t.Errorf("%+v", r)
	}
}

func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := int32(l.Addr().(*net.TCPAddr).Port)
	serving, stop := grpcServer(l)
	defer stop()
	target := Target{IP: "127.0.0.1"}
	check := func(service string) result {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return checkGRPC(ctx, target, &corev1.GRPCAction{Port: port, Service: &service}, 2*time.Second)
	}
	if r := check("good"); !r.ok {
		t.Errorf("%+v", r)
	}
	serving(false)
	if r := check("good"); r.ok || !strings.Contains(r.output, "NOT_SERVING") {
		t.Errorf("%+v", r)
	}
	if r := check("unknown"); r.ok {
		t.Errorf("%+v", r)
	}
	stop()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if r := checkGRPC(ctx, target, &corev1.GRPCAction{Port: port}, 200*time.Millisecond); r.ok || errors.Is(r.err, context.DeadlineExceeded) {
		t.Errorf("nobody listens: %+v", r)
	}
}
