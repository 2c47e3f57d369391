package forward

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
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
	files []*file
}

// NewUpstream uses servers ("address", "address:port" or "tls://address:port") and those of files in the form of resolv.conf, which are read again
// when they change. Servers that are this one are left out.
func NewUpstream(to []string, own func(netip.AddrPort) bool, log *zap.Logger) *Upstream {
	u := &Upstream{}
	var fixed []string
	for _, t := range to {
		if strings.HasPrefix(t, "/") {
			f := &file{path: t, own: own, log: log, now: time.Now}
			f.servers()
			u.files = append(u.files, f)
		} else {
			fixed = append(fixed, t)
		}
	}
	u.fixed = usable(fixed, own, log)
	return u
}

// Servers lists the servers as "address:port" or "tls://address:port".
func (u *Upstream) Servers() []string {
	if len(u.files) == 0 {
		return u.fixed
	}
	out := slices.Clone(u.fixed)
	for _, f := range u.files {
		for _, s := range f.servers() {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// file is one in the form of resolv.conf.
type file struct {
	path string
	own  func(netip.AddrPort) bool
	log  *zap.Logger
	now  func() time.Time

	mu       sync.Mutex
	list     []string  // guarded by mu
	looked   time.Time // guarded by mu
	modified time.Time // guarded by mu
}

func (f *file) servers() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now().Sub(f.looked) < lookEvery {
		return f.list
	}
	first := f.looked.IsZero()
	f.looked = f.now()
	info, err := os.Stat(f.path)
	if err != nil {
		if first {
			f.log.Warn("names outside the cluster cannot be resolved", zap.Error(err))
		}
		return f.list
	}
	if info.ModTime().Equal(f.modified) {
		return f.list
	}
	read, err := dns.ClientConfigFromFile(f.path)
	if err != nil {
		f.log.Warn("keeping the upstream servers", zap.Error(err))
		return f.list
	}
	f.modified = info.ModTime()
	f.list = usable(read.Servers, f.own, f.log)
	f.log.Info("upstream servers", zap.String("file", f.path), zap.Strings("servers", f.list))
	return f.list
}

func usable(texts []string, own func(netip.AddrPort) bool, log *zap.Logger) []string {
	var out []string
	for _, t := range texts {
		rest, secure := strings.CutPrefix(t, "tls://")
		host, port, err := net.SplitHostPort(rest)
		if err != nil {
			host, port = rest, "53"
		}
		a, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
		switch {
		case err != nil:
			log.Warn("upstream server is not an address", zap.String("server", t))
		case own(a):
			log.Warn("upstream server is this server, and left out", zap.String("server", t))
		default:
			s := net.JoinHostPort(host, port)
			if secure {
				s = "tls://" + s
			}
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}
