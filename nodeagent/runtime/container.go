package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/container"
	"hardway/nodeagent/image"
	"hardway/nodeagent/sandbox"
	"hardway/nodeagent/supervisor/wire"
)

// StartError is returned by StartContainer for a container that could not start. Its words are for the user; the same
// are in the Reason of the status, which stays until the container is removed.
type StartError struct {
	Reason   string
	ExitCode int // 127: no such program, 126: it may not be executed, 128: anything else
}

func (e *StartError) Error() string { return e.Reason }

// StartContainer creates and starts a container of a pod that EnsurePod made. Asked again for the same id it returns
// the status of that container. An error that is no *StartError means that nothing was recorded.
func (r *Runtime) StartContainer(ctx context.Context, uid types.UID, cfg ContainerConfig) (Status, error) {
	req, err := r.prepare(cfg)
	if err != nil {
		return Status{}, fmt.Errorf("start container %s: %w", cfg.Name, err)
	}
	reply, err := wire.Call(ctx, r.podDir(uid), wire.Request{Op: wire.OpStart, Start: req})
	if err != nil {
		return Status{}, fmt.Errorf("start container %s: %w", cfg.Name, err)
	}
	if err := reply.Err(); err != nil || reply.Status == nil {
		err = errors.Join(err, r.opts.Images.Release(cfg.ID))
		return Status{}, fmt.Errorf("start container %s: %w", cfg.Name, err)
	}
	st := *reply.Status
	if st.State == container.Exited && st.StartedAt.IsZero() {
		return st, &StartError{Reason: st.Reason, ExitCode: st.ExitCode}
	}
	return st, nil
}

// prepare completes a container with what its image says and finds the image's layers.
func (r *Runtime) prepare(cfg ContainerConfig) (*wire.Start, error) {
	if !uidPattern.MatchString(cfg.ID) {
		return nil, fmt.Errorf("container id %q cannot be used as a file name", cfg.ID)
	}
	img, ok := r.opts.Images.Get(cfg.Image)
	if !ok {
		return nil, fmt.Errorf("image %s: %w", cfg.Image, image.ErrNotFound)
	}
	full, err := withImage(cfg, img)
	if err != nil {
		return nil, err
	}
	req := &wire.Start{Config: full}
	if path, ok := strings.CutPrefix(cfg.Security.Seccomp, "Localhost:"); ok {
		if req.Seccomp, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("seccomp profile: %w", err)
		}
	}
	req.Layers, err = r.opts.Images.Use(img.ID, cfg.ID)
	return req, err
}

// withImage fills in what the pod left to the image.
func withImage(cfg ContainerConfig, img image.Image) (ContainerConfig, error) {
	if len(cfg.Args) == 0 {
		cfg.Args = slices.Concat(img.Config.Entrypoint, img.Config.Cmd)
	}
	cfg.Env = container.MergeEnv(img.Config.Env, cfg.Env)
	if cfg.Dir == "" {
		cfg.Dir = img.Config.WorkingDir
	}
	if cfg.User == "" {
		cfg.User = img.Config.User
	}
	if cfg.StopSignal == 0 {
		var err error
		if cfg.StopSignal, err = ParseSignal(img.Config.StopSignal); err != nil {
			return cfg, fmt.Errorf("image %s: %w", img.ID, err)
		}
	}
	return cfg, nil
}

// ParseSignal reads a signal as images name their STOPSIGNAL: "SIGTERM", "TERM", "SIGRTMIN+3" or "15". Empty is SIGTERM.
func ParseSignal(s string) (syscall.Signal, error) {
	if s == "" {
		return unix.SIGTERM, nil
	}
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= maxSignal {
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig := unix.SignalNum("SIG" + name); sig != 0 {
		return sig, nil
	}
	for prefix, from := range map[string]int{"RTMIN+": minRealTime, "RTMAX-": maxSignal} {
		rest, ok := strings.CutPrefix(name, prefix)
		n, err := strconv.Atoi(rest)
		if !ok || err != nil {
			continue
		}
		if from == maxSignal {
			n = -n
		}
		if sig := from + n; sig >= minRealTime && sig <= maxSignal {
			return syscall.Signal(sig), nil
		}
	}
	return 0, fmt.Errorf("unknown signal %q", s)
}

// Real-time signals as C programs number them; the first two belong to the C library.
const (
	minRealTime = 34
	maxSignal   = 64
)

// SignalContainer sends a signal to a container's first process; SIGKILL ends all of them. One that has ended is no
// error.
func (r *Runtime) SignalContainer(ctx context.Context, uid types.UID, id string, sig syscall.Signal) error {
	return r.ask(ctx, uid, wire.Request{Op: wire.OpSignal, ID: id, Signal: int(sig)}, "signal container "+id)
}

// RemoveContainer forgets a container that has ended: its writable layer and its status. One that is not there is no
// error; one that runs is.
func (r *Runtime) RemoveContainer(ctx context.Context, uid types.UID, id string) error {
	defer r.lock(uid)()
	alive, err := sandbox.Alive(r.podDir(uid))
	if err != nil {
		return err
	}
	if alive {
		err = r.ask(ctx, uid, wire.Request{Op: wire.OpRemove, ID: id}, "remove container "+id)
	} else {
		err = r.discard(uid, id)
	}
	if err != nil {
		return err
	}
	return r.opts.Images.Release(id)
}

// discard removes a container of a pod that nobody stands over any more.
func (r *Runtime) discard(uid types.UID, id string) error {
	if !uidPattern.MatchString(id) {
		return fmt.Errorf("remove container: %q is no id", id)
	}
	err := os.RemoveAll(filepath.Join(r.dataDir(uid), id))
	if err == nil {
		err = os.RemoveAll(filepath.Join(r.podDir(uid), wire.ContainersDir, id+".json"))
	}
	if err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	return nil
}

// ask carries out a request that has no result.
func (r *Runtime) ask(ctx context.Context, uid types.UID, req wire.Request, what string) error {
	reply, err := wire.Call(ctx, r.podDir(uid), req)
	if err == nil {
		err = reply.Err()
	}
	if errors.Is(err, wire.ErrNoContainer) || errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w (%w)", ErrNotFound, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
