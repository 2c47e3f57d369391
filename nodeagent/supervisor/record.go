package supervisor

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hardway/nodeagent/container"
	"hardway/nodeagent/supervisor/wire"
)

// LostReason is what a container's Reason says when its supervisor died with it.
const LostReason = "the pod's supervisor ended unexpectedly and took the container along"

// Records reads what the supervisor of the pod's folder dir last wrote about its containers. When nobody supervises
// them any more (lost), those that had not ended are returned as killed.
func Records(dir string, lost bool) ([]container.Status, error) {
	folder := filepath.Join(dir, wire.ContainersDir)
	entries, err := os.ReadDir(folder)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read container records: %w", err)
	}
	var out []container.Status
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		var st container.Status
		b, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if os.IsNotExist(err) {
			continue // removed meanwhile
		}
		if err == nil {
			err = json.Unmarshal(b, &st)
		}
		if err != nil {
			return nil, fmt.Errorf("read container record %s: %w", e.Name(), err)
		}
		if lost && st.State != container.Exited {
			st.State, st.ExitCode, st.Signal, st.Pid, st.Reason = container.Exited, 137, 9, 0, LostReason
			if info, err := e.Info(); err == nil {
				st.FinishedAt = info.ModTime()
			}
		}
		out = append(out, st)
	}
	return out, nil
}

// save writes one record so that a reader sees the old or the new one, whole. It is not flushed to disk: after a power
// failure no container is left to know about.
func (s *Supervisor) save(st container.Status) error {
	b, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("save record of container %s: %w", st.ID, err)
	}
	path := s.recordPath(st.ID)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("save record of container %s: %w", st.ID, err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("save record of container %s: %w", st.ID, err)
	}
	return os.Rename(tmp, path)
}

func (s *Supervisor) recordPath(id string) string {
	return filepath.Join(s.dir, wire.ContainersDir, id+".json")
}

// loadRecords takes over what an earlier supervisor of this pod left behind.
func (s *Supervisor) loadRecords() error {
	statuses, err := Records(s.dir, true)
	if err != nil {
		return err
	}
	for _, st := range statuses {
		if st.FinishedAt.IsZero() {
			st.FinishedAt = time.Now()
		}
		if err := s.save(st); err != nil {
			return err
		}
		e := &entry{status: st, gone: make(chan struct{})}
		close(e.gone)
		s.containers[st.ID] = e
	}
	return nil
}
