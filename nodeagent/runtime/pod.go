package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/cgroup"
	"hardway/nodeagent/container"
	"hardway/nodeagent/network"
	"hardway/nodeagent/sandbox"
	"hardway/nodeagent/supervisor"
	"hardway/nodeagent/supervisor/wire"
)

// record is the file pod.json in a pod's folder: what the supervisor need not know.
type record struct {
	Config    PodConfig
	IPs       []netip.Addr
	CreatedAt time.Time
	Ready     bool // everything the pod needs was made; else it is made again from the start
}

const recordFile = "pod.json"

// uidPattern is what may be the name of a folder and part of a cgroup's.
var uidPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

func (r *Runtime) readRecord(uid types.UID) (record, bool, error) {
	var rec record
	b, err := os.ReadFile(filepath.Join(r.podDir(uid), recordFile))
	if errors.Is(err, os.ErrNotExist) {
		return rec, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &rec)
	}
	if err != nil {
		return rec, false, fmt.Errorf("read record of pod %s: %w", uid, err)
	}
	return rec, true, nil
}

// writeRecord replaces the record in one step. It is not flushed: after a power failure no pod is left.
func (r *Runtime) writeRecord(rec record) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("write record of pod %s: %w", rec.Config.UID, err)
	}
	path := filepath.Join(r.podDir(rec.Config.UID), recordFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write record of pod %s: %w", rec.Config.UID, err)
	}
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("write record of pod %s: %w", rec.Config.UID, err)
	}
	return os.Rename(path+".new", path)
}

// uids lists the pods that have a folder.
func (r *Runtime) uids() ([]types.UID, error) {
	entries, err := os.ReadDir(filepath.Join(r.opts.StateDir, "pods"))
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	var out []types.UID
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, types.UID(e.Name()))
		}
	}
	return out, nil
}

// Pods returns everything on this node that is ours. Pods that cannot be read are in the error, the others in the list.
func (r *Runtime) Pods(ctx context.Context) ([]PodStatus, error) {
	uids, err := r.uids()
	if err != nil {
		return nil, err
	}
	var out []PodStatus
	var errs []error
	for _, uid := range uids {
		st, ok, err := r.Pod(ctx, uid)
		if err != nil {
			errs = append(errs, err)
		} else if ok {
			out = append(out, st)
		}
	}
	return out, errors.Join(errs...)
}

// Pod returns one pod; false when there is none. A folder whose pod was never written is as good as none.
func (r *Runtime) Pod(ctx context.Context, uid types.UID) (PodStatus, bool, error) {
	rec, ok, err := r.readRecord(uid)
	if err != nil || !ok {
		return PodStatus{}, false, err
	}
	st := PodStatus{Config: rec.Config, IPs: rec.IPs, CreatedAt: rec.CreatedAt}
	dir := r.podDir(uid)
	reply, err := wire.Call(ctx, dir, wire.Request{Op: wire.OpStatus})
	if err == nil {
		st.Alive, st.Containers = true, reply.Statuses
		return st, true, reply.Err()
	}
	if ctx.Err() != nil {
		return st, true, err
	}
	alive, aerr := sandbox.Alive(dir)
	if aerr != nil {
		return st, true, aerr
	}
	if alive {
		return st, true, err // it lives but does not answer: no verdict about its containers
	}
	st.Containers, err = supervisor.Records(dir, true)
	return st, true, err
}

// EnsurePod makes the sandbox of a pod: namespaces, cgroup, network, supervisor. When it is there already nothing
// changes. A pod whose supervisor died gets a new sandbox, with a new address; the records of its containers stay.
func (r *Runtime) EnsurePod(ctx context.Context, cfg PodConfig) (PodStatus, error) {
	if !uidPattern.MatchString(string(cfg.UID)) {
		return PodStatus{}, fmt.Errorf("pod uid %q cannot be used as a file name", cfg.UID)
	}
	if cfg.CgroupParent == "" {
		return PodStatus{}, fmt.Errorf("pod %s/%s: no cgroup named", cfg.Namespace, cfg.Name)
	}
	defer r.lock(cfg.UID)()
	rec, ok, err := r.readRecord(cfg.UID)
	if err != nil {
		return PodStatus{}, err
	}
	if ok {
		alive, err := sandbox.Alive(r.podDir(cfg.UID))
		if err != nil {
			return PodStatus{}, err
		}
		if alive && rec.Ready {
			st, _, err := r.Pod(ctx, cfg.UID)
			return st, err
		}
		if err := r.takeDown(ctx, rec.Config); err != nil {
			return PodStatus{}, err
		}
	}
	if err := r.build(ctx, cfg); err != nil {
		// Whatever was made is taken down again: the next try starts from nothing.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
		defer cancel()
		if cerr := r.takeDown(clean, cfg); cerr != nil {
			r.log.Warn("half-made sandbox not removed", zap.String("uid", string(cfg.UID)), zap.Error(cerr))
		}
		return PodStatus{}, fmt.Errorf("create sandbox of pod %s/%s: %w", cfg.Namespace, cfg.Name, err)
	}
	st, _, err := r.Pod(ctx, cfg.UID)
	return st, err
}

// cleanUpTime bounds what is done after a failure.
const cleanUpTime = 30 * time.Second

// build makes a sandbox from nothing. The network is attached while the supervisor starts.
func (r *Runtime) build(ctx context.Context, cfg PodConfig) error {
	rec := record{Config: cfg, CreatedAt: time.Now()}
	if err := r.writeRecord(rec); err != nil {
		return err
	}
	launched, err := sandbox.Launch(r.podDir(cfg.UID), wirePod(cfg, r.dataDir(cfg.UID)), r.sandbox)
	if err != nil {
		return err
	}
	attached := make(chan error, 1)
	go func() {
		var err error
		if !cfg.HostNetwork {
			rec.IPs, err = r.attach(ctx, cfg, launched.NetNS)
		}
		attached <- err
	}()
	err = errors.Join(cgroup.Ensure(cfg.CgroupParent, cfg.Resources), launched.Ready(ctx))
	if err = errors.Join(err, <-attached); err != nil {
		return err
	}
	rec.Ready = true
	if err := r.writeRecord(rec); err != nil {
		return err
	}
	r.watch(cfg.UID)
	return nil
}

func (r *Runtime) attach(ctx context.Context, cfg PodConfig, netns string) ([]netip.Addr, error) {
	if r.opts.Network == nil {
		return nil, network.ErrNotReady
	}
	return r.opts.Network.Attach(ctx, network.Pod{
		UID: string(cfg.UID), Name: cfg.Namespace + "/" + cfg.Name, NetNS: netns, HostPorts: cfg.HostPorts,
	})
}

// wirePod is the supervisor's part of a pod.
func wirePod(cfg PodConfig, data string) wire.Pod {
	return wire.Pod{
		UID: string(cfg.UID), Hostname: cfg.Hostname, HostNetwork: cfg.HostNetwork, HostPID: cfg.HostPID, HostIPC: cfg.HostIPC,
		ShareProcess: cfg.ShareProcess, Cgroup: cfg.CgroupParent, Sysctls: cfg.Sysctls, Data: data,
	}
}

// takeDown removes everything of a pod's sandbox but its records: supervisor, processes, cgroup, network, namespaces.
func (r *Runtime) takeDown(ctx context.Context, cfg PodConfig) error {
	dir := r.podDir(cfg.UID)
	err := sandbox.Shutdown(ctx, dir)
	err = errors.Join(err, cgroup.Remove(ctx, cfg.CgroupParent))
	if !cfg.HostNetwork && r.opts.Network != nil {
		err = errors.Join(err, r.opts.Network.Detach(ctx, string(cfg.UID)))
	}
	return errors.Join(err, sandbox.Unpin(dir))
}

// killLeftovers ends the processes of a pod that nobody stands over any more.
func (r *Runtime) killLeftovers(cfg PodConfig) error {
	ctx, cancel := context.WithTimeout(r.ctx, cleanUpTime)
	defer cancel()
	return cgroup.Kill(ctx, cfg.CgroupParent)
}

// RemovePod kills what is left of a pod and removes every trace of it but its logs. No such pod is no error.
func (r *Runtime) RemovePod(ctx context.Context, uid types.UID) error {
	defer r.lock(uid)()
	rec, ok, err := r.readRecord(uid)
	if err != nil {
		return err
	}
	dir := r.podDir(uid)
	if ok {
		if err := r.takeDown(ctx, rec.Config); err != nil {
			return fmt.Errorf("remove pod %s/%s: %w", rec.Config.Namespace, rec.Config.Name, err)
		}
	}
	statuses, err := supervisor.Records(dir, true)
	if err != nil {
		return fmt.Errorf("remove pod %s: %w", uid, err)
	}
	var errs []error
	for _, st := range statuses {
		errs = append(errs, r.opts.Images.Release(st.ID))
	}
	errs = append(errs, sandbox.Unpin(dir), os.RemoveAll(r.dataDir(uid)))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove pod %s: %w", uid, err)
	}
	if err := removeFolder(dir); err != nil {
		return fmt.Errorf("remove pod %s: %w", uid, err)
	}
	return nil
}

// removeFolder removes a pod's folder, the record last: as long as it is there the pod can be found and removed again.
func removeFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Name() == recordFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// Stats measures a pod and its running containers.
func (r *Runtime) Stats(ctx context.Context, uid types.UID) (PodStats, error) {
	st, ok, err := r.Pod(ctx, uid)
	if err != nil || !ok {
		return PodStats{}, errors.Join(err, notFound(ok, uid))
	}
	out := PodStats{Containers: map[string]Usage{}}
	for _, c := range st.Containers {
		if c.State != container.Running {
			continue
		}
		u, err := cgroup.Stats(filepath.Join(st.Config.CgroupParent, c.ID))
		if errors.Is(err, os.ErrNotExist) {
			continue // it ended meanwhile
		}
		if err != nil {
			return out, err
		}
		out.Containers[c.ID] = u
	}
	// The whole is read after its parts: it never seems to have used less than they have.
	out.Pod, err = cgroup.Stats(st.Config.CgroupParent)
	return out, err
}

// ErrNotFound says that the node has no such pod or container.
var ErrNotFound = errors.New("not found")

func notFound(ok bool, uid types.UID) error {
	if ok {
		return nil
	}
	return fmt.Errorf("pod %s: %w", uid, ErrNotFound)
}
