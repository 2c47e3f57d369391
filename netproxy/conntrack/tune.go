package conntrack

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// Settings are kernel settings of conntrack. Nil and false leave one as it is.
type Settings struct {
	Max                   *int // entries
	TCPEstablishedTimeout *time.Duration
	TCPCloseWaitTimeout   *time.Duration
	UDPTimeout            *time.Duration
	UDPStreamTimeout      *time.Duration
	TCPBeLiberal          bool
}

// Tune applies settings to this network namespace and returns those that the kernel refused. The table is only ever made larger.
//
// Differs from upstream: settings that nobody asked for keep the kernel's values.
func Tune(s Settings) []error {
	want := map[string]int{}
	if s.Max != nil {
		want["nf_conntrack_max"] = *s.Max
	}
	for name, t := range map[string]*time.Duration{
		"nf_conntrack_tcp_timeout_established": s.TCPEstablishedTimeout,
		"nf_conntrack_tcp_timeout_close_wait":  s.TCPCloseWaitTimeout,
		"nf_conntrack_udp_timeout":             s.UDPTimeout,
		"nf_conntrack_udp_timeout_stream":      s.UDPStreamTimeout,
	} {
		if t != nil {
			want[name] = int(t.Seconds())
		}
	}
	if s.TCPBeLiberal {
		want["nf_conntrack_tcp_be_liberal"] = 1
	}
	var refused []error
	for name, value := range want {
		if err := set("/proc/sys/net/netfilter/"+name, value, name == "nf_conntrack_max"); err != nil {
			refused = append(refused, err)
		}
	}
	return refused
}

func set(path string, value int, onlyMore bool) error {
	if onlyMore {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if is, err := strconv.Atoi(string(text[:max(0, len(text)-1)])); err == nil && is >= value {
			return nil
		}
	}
	if err := os.WriteFile(path, strconv.AppendInt(nil, int64(value), 10), 0); err != nil {
		return fmt.Errorf("set to %d: %w", value, err)
	}
	return nil
}
