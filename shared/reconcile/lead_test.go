package reconcile_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"

	"hardway/shared/reconcile"
	"hardway/shared/testenv"
)

// TestLeadership lets one candidate lead, stop in good order, and the next one take over at once; then a leader that
// loses the apiserver stops its work and leads again when it is back.
func TestLeadership(t *testing.T) {
	env := testenv.Start(t)
	leading := make(chan string, 10)
	stopped := make(chan string, 10)
	start := func(name string) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- reconcile.Lead(ctx, reconcile.Election{
				API: env.API(), Namespace: "kube-system", Name: "test", Identity: name, ReleaseOnExit: true,
				Lease: 3 * time.Second, Renew: 2 * time.Second, Retry: 200 * time.Millisecond,
			}, zap.NewNop(), func(ctx context.Context) error {
				leading <- name
				<-ctx.Done()
				stopped <- name
				return nil
			})
		}()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	expect := func(c <-chan string, want string) {
		t.Helper()
		select {
		case got := <-c:
			if got != want {
				t.Fatalf("%s, want %s", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("waited for %s in vain", want)
		}
	}
	stopA := start("a")
	expect(leading, "a")
	stopB := start("b")
	select {
	case who := <-leading:
		t.Fatalf("%s leads beside a", who)
	case <-time.After(time.Second):
	}
	stopA()
	expect(stopped, "a")
	before := time.Now()
	expect(leading, "b")
	if took := time.Since(before); took > 2*time.Second {
		t.Errorf("a released lease was taken after %s only", took)
	}
	address := env.Address
	env.Kill()
	expect(stopped, "b")
	env.Relaunch(address)
	expect(leading, "b")
	stopB()
}
