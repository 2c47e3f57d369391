package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
)

const (
	maxBody      = 10 << 10
	maxRedirects = 10
	agent        = "kube-probe/1.36"
)

func (p *Prober) check(ctx context.Context, t Target, spec *corev1.Probe, timeout time.Duration) result {
	switch {
	case spec.Exec != nil:
		return p.checkExec(ctx, t, spec.Exec.Command, timeout)
	case spec.HTTPGet != nil:
		return checkHTTP(ctx, t, spec.HTTPGet)
	case spec.TCPSocket != nil:
		return checkTCP(ctx, t, spec.TCPSocket)
	case spec.GRPC != nil:
		return checkGRPC(ctx, t, spec.GRPC, timeout)
	default:
		return result{err: errors.New("missing probe handler")}
	}
}

func (p *Prober) checkExec(ctx context.Context, t Target, cmd []string, timeout time.Duration) result {
	code, output, err := p.exec(ctx, t.Pod.UID, t.ID, cmd)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return failed("command timed out: %q timed out after %s", cmd, timeout)
	case err != nil:
		return result{err: err}
	case code != 0:
		return failed("%s", output)
	default:
		return result{ok: true, output: output}
	}
}

// checkHTTP succeeds on 2xx and 3xx. A redirect to another host is not followed and counts as a success with a
// warning, as upstream does.
func checkHTTP(ctx context.Context, t Target, a *corev1.HTTPGetAction) result {
	req, err := Request(ctx, a, t.Container, t.IP, agent)
	if err != nil {
		return result{err: err}
	}
	client := &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // a probe names no CA
			DialContext:     dialer().DialContext, DisableKeepAlives: true, DisableCompression: true,
		},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if next.URL.Hostname() != req.URL.Hostname() {
				return http.ErrUseLastResponse
			}
			if len(via) >= maxRedirects {
				return errors.New("stopped after 10 redirects")
			}
			return nil
		},
	}
	resp, err := client.Do(req)
	if err != nil {
		return failed("%v", httpError(ctx, req.URL, err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return failed("%v", err)
	}
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return result{ok: true, warning: fmt.Sprintf("Probe terminated redirects, Response body: %s", body)}
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return result{ok: true, output: string(body)}
	default:
		return failed("HTTP probe failed with statuscode: %d", resp.StatusCode)
	}
}

// httpError words a failed request as upstream's client does.
func httpError(ctx context.Context, u *url.URL, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("Get %q: context deadline exceeded (Client.Timeout exceeded while awaiting headers)", u)
	}
	return err
}

func checkTCP(ctx context.Context, t Target, a *corev1.TCPSocketAction) result {
	port, err := Port(a.Port, t.Container)
	if err != nil {
		return result{err: err}
	}
	host := a.Host
	if host == "" {
		host = t.IP
	}
	conn, err := dialer().DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return failed("%v", err)
	}
	if err := conn.Close(); err != nil {
		return failed("%v", err)
	}
	return result{ok: true}
}

// dialer closes probing connections at once, so that thousands of them do not linger in TIME_WAIT.
func dialer() *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			// Best effort: without it the connection merely lingers.
			_ = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1, Linger: 1})
		})
	}}
}

func checkGRPC(ctx context.Context, t Target, a *corev1.GRPCAction, timeout time.Duration) result {
	addr := net.JoinHostPort(t.IP, strconv.Itoa(int(a.Port)))
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent(agent), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return dialer().DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		return failed("timeout: failed to connect service %q within %v: %v", addr, timeout, err)
	}
	defer conn.Close()
	service := ""
	if a.Service != nil {
		service = *a.Service
	}
	resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service}, grpc.WaitForReady(true))
	switch {
	case err == nil && resp.GetStatus() == healthpb.HealthCheckResponse_SERVING:
		return result{ok: true}
	case err == nil:
		return failed("service unhealthy (responded with %q)", resp.GetStatus())
	case status.Code(err) == codes.Unimplemented:
		return failed("this server does not implement the grpc health protocol (grpc.health.v1.Health): %v", err)
	case status.Code(err) == codes.DeadlineExceeded:
		return failed("timeout: health rpc did not complete within %v", timeout)
	default:
		return failed("error: health rpc probe failed: %v", err)
	}
}
