package serve_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// serverEnv makes the test binary a server for BenchmarkThroughput.
const serverEnv = "HARDWAY_DNS_BENCH_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) != "" {
		testing.Benchmark(func(b *testing.B) {
			r := newRig(b)
			r.set(web("10.32.0.20"))
			fmt.Println(r.addr)
			_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent is done
		})
		return
	}
	os.Exit(m.Run())
}

// BenchmarkThroughput asks a server in a process of its own over UDP, from 32 clients at once, and reports the server's CPU time for a query.
func BenchmarkThroughput(b *testing.B) {
	server := exec.CommandContext(b.Context(), os.Args[0])
	server.Env = append(os.Environ(), serverEnv+"=1")
	in, err := server.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := server.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		b.Fatal("the server told no address")
	}
	addr := lines.Text()
	query, err := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	const clients = 32
	b.ResetTimer()
	ctx, cancel := context.WithCancel(b.Context())
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	started := time.Now()
	for range clients {
		wg.Go(func() {
			if err := flood(ctx, addr, query, &left); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	cancel()
	took := time.Since(started)
	if err := in.Close(); err != nil {
		b.Fatal(err)
	}
	for lines.Scan() { //nolint:revive // to the end of the output
	}
	_ = server.Wait()
	cpu := server.ProcessState.SystemTime() + server.ProcessState.UserTime()
	b.ReportMetric(float64(b.N)/took.Seconds(), "queries/s")
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N), "server-cpu-ns/query")
	b.ReportMetric(float64(server.ProcessState.UserTime().Nanoseconds())/float64(b.N), "server-user-ns/query")
}

// flood asks one question after the other.
func flood(ctx context.Context, addr string, query []byte, left *atomic.Int64) error {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	answer := make([]byte, 512)
	for left.Add(-1) >= 0 {
		if _, err := c.Write(query); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if _, err := c.Read(answer); err != nil {
			return err
		}
	}
	return nil
}
