package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"k8s.io/client-go/rest"

	"hardway/apiserver/config"
	"hardway/apiserver/etcd"
	"hardway/apiserver/etcd/backup"
	"hardway/shared/client"
	"hardway/shared/daemon"
)

// Paths below which a server shows its etcd, to those who may do everything: a snapshot holds all secrets.
const (
	snapshotPath = "/debug/etcd/snapshot"
	spacePath    = "/debug/etcd/status"
)

// serveSnapshot streams a snapshot. One that breaks off breaks the connection, and has no checksum.
func (s *server) serveSnapshot(w http.ResponseWriter, r *http.Request) {
	snapshot, err := s.kept.snapshot(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer snapshot.Close() //nolint:errcheck // it was read
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := io.Copy(w, snapshot); err != nil {
		s.log.Warn("a snapshot of etcd broke off", zap.Error(err))
		panic(http.ErrAbortHandler)
	}
}

func (s *server) serveSpace(w http.ResponseWriter, r *http.Request) {
	space, err := s.kept.space(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(space) // an error here means that the client has gone
}

// tool is one of the etcd commands: what it acts on.
type tool struct {
	cfg        *config.Config
	kubeconfig string
	unchecked  bool
	file       string
	optional   bool // the file
}

// etcdCommands are 'hardway-apiserver etcd ...'.
func etcdCommands() daemon.Program {
	return daemon.Program{
		Commands: map[string]daemon.Program{
			"snapshot": (&tool{}).program((*tool).snapshot, (*tool).reach),
			"status":   (&tool{optional: true}).program((*tool).status, (*tool).reach),
			"restore":  (&tool{}).program((*tool).restore, (*tool).member),
		},
		Run: func(context.Context, *zap.Logger) error {
			return &daemon.ConfigError{Err: errors.New("one of these commands is needed: snapshot FILE, restore FILE, status [FILE]")}
		},
	}
}

func (t *tool) program(run func(*tool, context.Context, *zap.Logger) error, flags func(*tool, *pflag.FlagSet)) daemon.Program {
	t.cfg = config.Default()
	return daemon.Program{
		Flags: func(fs *pflag.FlagSet) { flags(t, fs) },
		Args:  t.args,
		Run:   func(ctx context.Context, log *zap.Logger) error { return run(t, ctx, log) },
	}
}

func (t *tool) args(args []string) error {
	switch {
	case len(args) == 1:
		t.file = args[0]
	case len(args) > 1 || !t.optional:
		return fmt.Errorf("the snapshot's file is needed, and nothing else: got %d arguments", len(args))
	}
	return nil
}

// reach are the flags that say where a running etcd is.
func (t *tool) reach(fs *pflag.FlagSet) {
	fs.StringVar(&t.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "asks the API server of this kubeconfig for what is in its etcd; its user must be allowed everything")
	e := &t.cfg.Etcd
	fs.StringSliceVar(&e.Servers, "etcd-servers", nil, "asks this etcd itself")
	fs.StringVar(&e.CA, "etcd-cafile", "", "file of the CA of etcd's certificates")
	fs.StringVar(&e.Cert, "etcd-certfile", "", "file of the certificate for etcd")
	fs.StringVar(&e.Key, "etcd-keyfile", "", "file of that certificate's key")
}

// member are the flags that the restored member will be started with.
func (t *tool) member(fs *pflag.FlagSet) {
	t.cfg.BindEtcd(fs)
	fs.BoolVar(&t.unchecked, "skip-hash-check", false, "takes a file without a checksum: one that was copied from a data directory")
}

func (t *tool) snapshot(ctx context.Context, log *zap.Logger) error {
	r, err := t.open(ctx, snapshotPath, log)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // it was read
	if err := backup.Save(t.file, r); err != nil {
		return err
	}
	return t.status(ctx, log)
}

func (t *tool) restore(_ context.Context, log *zap.Logger) error {
	if err := backup.Restore(t.file, memberOptions(t.cfg.Etcd, log), t.unchecked, zap.NewNop()); err != nil {
		return err
	}
	fmt.Printf("%s holds a new cluster with what was in %s\n", t.cfg.Etcd.DataDir, t.file) //nolint:forbidigo // a command's output
	return nil
}

// status tells what is in the file, or how full the etcd is.
func (t *tool) status(ctx context.Context, log *zap.Logger) error {
	if t.file != "" {
		c, err := backup.Look(t.file)
		if err != nil {
			return err
		}
		fmt.Printf("%s: revision %d, %d keys, %d bytes, hash %08x, etcd %s\n", t.file, c.Revision, c.TotalKey, c.TotalSize, c.Hash, c.Version) //nolint:forbidigo // likewise
		return nil
	}
	r, err := t.open(ctx, spacePath, log)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // it was read
	var space etcd.Space
	if err := json.NewDecoder(r).Decode(&space); err != nil {
		return fmt.Errorf("read etcd's status: %w", err)
	}
	fmt.Printf("in use %d bytes, file %d bytes, quota %d bytes, full: %t, alarms: %v\n", space.InUse, space.Size, space.Quota, space.Full, space.Alarms) //nolint:forbidigo // likewise
	return space.Err()
}

// open begins to read what lies at a path, from an API server or, for what an external etcd says, as a server would
// show it.
func (t *tool) open(ctx context.Context, path string, log *zap.Logger) (io.ReadCloser, error) {
	if len(t.cfg.Etcd.Servers) > 0 {
		return t.direct(ctx, path, log)
	}
	if t.kubeconfig == "" {
		return nil, &daemon.ConfigError{Err: errors.New("--kubeconfig or --etcd-servers is needed")}
	}
	cfg, err := client.Config(t.kubeconfig, "hardway-apiserver")
	if err != nil {
		return nil, &daemon.ConfigError{Err: err}
	}
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, cfg.Host+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := h.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close() //nolint:errcheck // it is an error already
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return nil, fmt.Errorf("%s%s: %s: %s", cfg.Host, path, resp.Status, text)
	}
	return resp.Body, nil
}

func (t *tool) direct(ctx context.Context, path string, log *zap.Logger) (io.ReadCloser, error) {
	k, err := openStore(ctx, t.cfg, nil, log)
	if err != nil {
		return nil, err
	}
	if path == snapshotPath {
		r, err := k.snapshot(ctx)
		if err != nil {
			k.stop()
			return nil, err
		}
		return &closing{r, k.stop}, nil
	}
	defer k.stop()
	space, err := k.space(ctx)
	if err != nil {
		return nil, err
	}
	in, out := io.Pipe()
	go func() { out.CloseWithError(json.NewEncoder(out).Encode(space)) }() //nolint:errcheck // it never fails
	return in, nil
}

// closing closes what it was read from as well.
type closing struct {
	io.ReadCloser
	then func()
}

func (c *closing) Close() error {
	defer c.then()
	return c.ReadCloser.Close()
}
