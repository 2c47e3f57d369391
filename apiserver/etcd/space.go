package etcd

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// DefaultQuota bounds what is in use of the data file, unless Options says otherwise.
const DefaultQuota = 8 << 30

// minReserve is what lies between the quota and the point where etcd itself refuses every write, at least.
const minReserve = 64 << 20

func (o Options) quota() int64 {
	if o.Quota > 0 {
		return o.Quota
	}
	return DefaultQuota
}

// reserve is the room above the quota. Once etcd's own limit is reached it refuses everything but deletions until an
// operator comes, so that is never to happen: at the quota, Full asks the apiserver to refuse what grows, and deletions,
// leases and compaction go on in the reserve.
func reserve(quota int64) int64 { return max(quota/8, minReserve) }

// Full says that the quota is used up. It counts the pages in use: those that deletions and compaction have freed are
// taken again, so that service returns by itself and the file need not be defragmented. It costs two atomic loads.
func (s *Server) Full() bool { return s.embedded.Server.Backend().SizeInUse() >= s.quota }

// Space is how full an etcd is, and what it complains of.
type Space struct {
	Size   int64    `json:"size"`            // of the data file
	InUse  int64    `json:"inUse"`           // of it
	Quota  int64    `json:"quota,omitempty"` // of InUse for an embedded member, of Size for others; 0: unknown
	Full   bool     `json:"full"`            // nothing may grow
	Alarms []string `json:"alarms,omitempty"`
}

// Err tells of alarms: while one is raised, etcd refuses to write.
func (s Space) Err() error {
	if len(s.Alarms) == 0 {
		return nil
	}
	return fmt.Errorf("etcd has raised an alarm: %s (%d of %d bytes in use)", strings.Join(s.Alarms, ", "), s.InUse, s.Size)
}

// Space is that of the embedded member.
func (s *Server) Space(context.Context) (Space, error) {
	b := s.embedded.Server.Backend()
	out := Space{Size: b.Size(), InUse: b.SizeInUse(), Quota: s.quota, Full: s.Full()}
	for _, a := range s.embedded.Server.Alarms() {
		out.Alarms = append(out.Alarms, fmt.Sprintf("%s on member %x", a.GetAlarm(), a.GetMemberID()))
	}
	return out, nil
}

// SpaceOf is that of an external etcd: of the first endpoint that answers.
func SpaceOf(ctx context.Context, c *clientv3.Client) (Space, error) {
	var failed error
	for _, endpoint := range c.Endpoints() {
		st, err := c.Status(ctx, endpoint)
		if err != nil {
			failed = fmt.Errorf("ask etcd %s for its status: %w", endpoint, err)
			continue
		}
		return Space{Size: st.DbSize, InUse: st.DbSizeInUse, Quota: st.DbSizeQuota, Full: len(st.Errors) > 0, Alarms: st.Errors}, nil
	}
	return Space{}, failed
}

// Snapshot reads a snapshot of an etcd, checksum included, as of the moment of the call.
func Snapshot(ctx context.Context, c *clientv3.Client) (io.ReadCloser, error) {
	r, err := c.Snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("read a snapshot of etcd: %w", err)
	}
	return r, nil
}

// Metrics are those of the embedded member, which etcd's packages register for the whole process.
func (s *Server) Metrics() prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		all, err := prometheus.DefaultGatherer.Gather()
		return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), "etcd_") }), err
	})
}
