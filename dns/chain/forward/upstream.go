package forward

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// lookEvery bounds how often the resolver file is looked at: at most once per question, and not more often than this.
const lookEvery = 5 * time.Second

// Upstream tells the servers to ask. It is safe for concurrent use.
type Upstream struct {
	fixed []string
	path  string
	own   func(netip.AddrPort) bool
	log   *zap.Logger
	now   func() time.Time

	mu       sync.Mutex
	servers  []string  // guarded by mu
	looked   time.Time // guarded by mu
	modified time.Time // guarded by mu
}

// NewUpstream uses the servers given ("address" or "address:port"), or, if there are none, those of a file in the form of resolv.conf, which is
// read again when it changes. Servers that are this one are left out.
func NewUpstream(fixed []string, path string, own func(netip.AddrPort) bool, log *zap.Logger) *Upstream {
	u := &Upstream{fixed: fixed, path: path, own: own, log: log, now: time.Now}
	u.Servers()
	return u
}

// Servers lists the servers as "address:port".
func (u *Upstream) Servers() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.now().Sub(u.looked) < lookEvery {
		return u.servers
	}
	first := u.looked.IsZero()
	u.looked = u.now()
	if len(u.fixed) > 0 {
		if first {
			u.servers = u.usable(u.fixed)
		}
		return u.servers
	}
	info, err := os.Stat(u.path)
	if err != nil {
		if first {
			u.log.Warn("names outside the cluster cannot be resolved", zap.Error(err))
		}
		return u.servers
	}
	if info.ModTime().Equal(u.modified) {
		return u.servers
	}
	file, err := dns.ClientConfigFromFile(u.path)
	if err != nil {
		u.log.Warn("keeping the upstream servers", zap.Error(err))
		return u.servers
	}
	u.modified = info.ModTime()
	u.servers = u.usable(file.Servers)
	u.log.Info("upstream servers", zap.String("file", u.path), zap.Strings("servers", u.servers))
	return u.servers
}

func (u *Upstream) usable(texts []string) []string {
	var out []string
	for _, t := range texts {
		host, port, err := net.SplitHostPort(t)
		if err != nil {
			host, port = t, "53"
		}
		a, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
		switch {
		case err != nil:
			u.log.Warn("upstream server is not an address", zap.String("server", t))
		case u.own(a):
			u.log.Warn("upstream server is this server, and left out", zap.String("server", t))
		default:
			if s := net.JoinHostPort(host, port); !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}
