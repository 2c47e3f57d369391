package runtime

import (
	"context"
	"fmt"
	"path/filepath"

	"k8s.io/apimachinery/pkg/types"

	"hardway/nodeagent/cgroup"
)

// ResizeContainer gives a running container other limits. A memory limit below what it uses now is refused: the kernel
// would kill it.
func (r *Runtime) ResizeContainer(_ context.Context, uid types.UID, id string, limits Resources) error {
	rec, ok, err := r.readRecord(uid)
	if err != nil || !ok {
		return fmt.Errorf("resize container %s: %w", id, notFoundOr(err, ok, uid))
	}
	name := filepath.Join(rec.Config.CgroupParent, id)
	if limits.MemoryLimit > 0 {
		used, err := cgroup.Stats(name)
		if err != nil {
			return fmt.Errorf("resize container: %w", err)
		}
		if uint64(limits.MemoryLimit) < used.WorkingSet {
			return fmt.Errorf("resize container: the new memory limit of %d bytes is below the %d bytes in use", limits.MemoryLimit, used.WorkingSet)
		}
	}
	if err := cgroup.Update(name, limits, true); err != nil {
		return fmt.Errorf("resize container: %w", err)
	}
	return nil
}

// ResizePod gives the pod as a whole other limits.
func (r *Runtime) ResizePod(_ context.Context, uid types.UID, limits Resources) error {
	defer r.lock(uid)()
	rec, ok, err := r.readRecord(uid)
	if err != nil || !ok {
		return fmt.Errorf("resize pod: %w", notFoundOr(err, ok, uid))
	}
	if err := cgroup.Update(rec.Config.CgroupParent, limits, false); err != nil {
		return fmt.Errorf("resize pod: %w", err)
	}
	rec.Config.Resources = limits
	return r.writeRecord(rec)
}

func notFoundOr(err error, ok bool, uid types.UID) error {
	if err != nil {
		return err
	}
	return notFound(ok, uid)
}
