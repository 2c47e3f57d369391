package etcd

import (
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// pointless are warnings about settings that this use of etcd makes on purpose, what etcd says on the first start on an
// empty directory, before it has written its version, and of its own request while it still reads its log.
var pointless = []string{
	"Running http and grpc server on single port. This is not recommended for production.",
	"simple token is not cryptographically signed",
	"Failed to detect schema version",
	"failed to update storage version",
	"failed to publish local member to cluster through raft",
}

// quiet lets warnings and errors through, but for the pointless ones.
func quiet(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return quietCore{c} }))
}

type quietCore struct{ zapcore.Core }

func (c quietCore) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel && c.Core.Enabled(l) }

func (c quietCore) With(fields []zapcore.Field) zapcore.Core { return quietCore{c.Core.With(fields)} }

func (c quietCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Level < zapcore.WarnLevel || isPointless(e.Message) {
		return ce
	}
	return c.Core.Check(e, ce)
}

func isPointless(message string) bool {
	return slices.ContainsFunc(pointless, func(p string) bool { return strings.Contains(message, p) })
}
