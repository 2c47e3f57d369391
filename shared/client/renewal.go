package client

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// renewal sends requests with the certificate that a kubeconfig holds, or names, at the moment: when that is renewed,
// new requests get new connections. Those that run, watches among them, end on the old ones; nothing is cut off.
//
// The files are looked at when a request is sent, at most once a second: no timer runs. Ones that cannot be read, or do
// not fit together, leave the last good ones in use.
type renewal struct {
	kubeconfig string
	tuned      *rest.Config // how to connect; whose certificate is used does not come from here

	mu      sync.Mutex
	looked  time.Time
	files   []file
	current http.RoundTripper
}

// file is a path, and what tells that its content is another now.
type file struct {
	path     string
	modified time.Time
	size     int64
}

// renew makes all connections by cfg, which was read from the kubeconfig, follow that file. Client-go does so only for
// certificates in files of their own, every five minutes, and ends all requests that run.
func renew(cfg *rest.Config, kubeconfig string) error {
	files := look(filesOf(cfg, kubeconfig))
	if err := hold(cfg); err != nil {
		return err
	}
	tuned := rest.CopyConfig(cfg)
	cfg.Wrap(func(first http.RoundTripper) http.RoundTripper {
		return &renewal{kubeconfig: kubeconfig, tuned: tuned, looked: time.Now(), files: files, current: first}
	})
	return nil
}

// RoundTrip implements http.RoundTripper.
func (r *renewal) RoundTrip(request *http.Request) (*http.Response, error) {
	return r.WrappedRoundTripper().RoundTrip(request)
}

// WrappedRoundTripper is what sends a request now.
func (r *renewal) WrappedRoundTripper() http.RoundTripper {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.looked) < time.Second {
		return r.current
	}
	r.looked = now
	if slices.Equal(look(paths(r.files)), r.files) {
		return r.current
	}
	if next, files, err := r.read(); err == nil {
		utilnet.CloseIdleConnectionsFor(r.current)
		r.current, r.files = next, files
	}
	return r.current
}

// read makes connections of what the files hold now.
func (r *renewal) read() (http.RoundTripper, []file, error) {
	cfg, err := readKubeconfig(r.kubeconfig)
	if err != nil {
		return nil, nil, err
	}
	files := look(filesOf(cfg, r.kubeconfig)) // before they are read: what changes now is seen the next time
	if err := hold(cfg); err != nil {
		return nil, nil, err
	}
	next, err := rest.TransportFor(&rest.Config{TLSClientConfig: cfg.TLSClientConfig, Dial: r.tuned.Dial, Proxy: r.tuned.Proxy,
		DisableCompression: r.tuned.DisableCompression})
	return next, files, err
}

func readKubeconfig(path string) (*rest.Config, error) {
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: path}, &clientcmd.ConfigOverrides{}).ClientConfig()
}

// hold brings the content of the files that cfg names into it, and forgets their names.
func hold(cfg *rest.Config) error {
	if err := rest.LoadTLSFiles(cfg); err != nil {
		return fmt.Errorf("read certificates: %w", err)
	}
	cfg.CAFile, cfg.CertFile, cfg.KeyFile = "", "", ""
	return nil
}

func filesOf(cfg *rest.Config, kubeconfig string) []string {
	return []string{kubeconfig, cfg.CAFile, cfg.CertFile, cfg.KeyFile}
}

func paths(files []file) []string {
	var out []string
	for _, f := range files {
		out = append(out, f.path)
	}
	return out
}

// look tells of files how they are. One that is missing is all zero.
func look(paths []string) []file {
	var out []file
	for _, path := range paths {
		f := file{path: path}
		if info, err := os.Stat(path); path != "" && err == nil {
			f.modified, f.size = info.ModTime(), info.Size()
		}
		out = append(out, f)
	}
	return out
}
