// Command hello is the sample that a cluster runs: an HTTP server that answers with its version, the pod it runs in and
// the path that was asked for. It reads VERSION, POD_NAME and PORT (default 8080), and ends cleanly on SIGTERM.
//
// Paths with a meaning of their own: /healthz answers 200; /exit/<code> ends the process with that code.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// drain is how long open requests may take after SIGTERM, well below the default grace period of a pod (30 s).
const drain = 10 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	host, _ := os.Hostname()
	server := &http.Server{
		Addr:              ":" + cmp.Or(os.Getenv("PORT"), "8080"),
		Handler:           handler(cmp.Or(os.Getenv("VERSION"), "0"), cmp.Or(os.Getenv("POD_NAME"), host), os.Exit),
		ReadHeaderTimeout: 5 * time.Second,
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		stopped <- server.Shutdown(ctx)
	}()
	fmt.Println("listening on", server.Addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	err := <-stopped
	fmt.Println("stopped")
	return err
}

// handler answers every path; exit is called with the code of /exit/<code>.
func handler(version, pod string, exit func(int)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/exit/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.ParseUint(r.PathValue("code"), 10, 8)
		if err != nil {
			http.Error(w, "the exit code must be 0 to 255", http.StatusBadRequest)
			return
		}
		exit(int(code))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Printf("%s %s from %s\n", r.Method, r.URL.Path, r.RemoteAddr)
		fmt.Fprintf(w, "hello from version %s in pod %s, path %s\n", version, pod, r.URL.Path)
	})
	return mux
}
