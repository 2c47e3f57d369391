package corefile

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

func fqdn(name string) string { return dns.CanonicalName(name) }

// parser fills settings from blocks.
type parser struct {
	settings *Settings
	domain   string
	main     int // line of the block for all names
}

// block is what a block says; its forwards get their limits from its cache line, wherever that stands.
type block struct {
	*parser
	main       bool
	zones      []string
	forwards   []Forward
	kubernetes bool
	limits     func(*Forward)
	seen       map[string]bool
}

// directive reads one line. Those that only the main block may have say so.
type directive struct {
	mainOnly bool
	read     func(*block, line) error
}

// directives are all that may stand in a block.
var directives = map[string]directive{
	"autopath":    {true, (*block).autopath},
	"cache":       {false, (*block).cache},
	"errors":      {false, func(b *block, l line) error { b.settings.Errors = true; return noMore(l, 1) }},
	"forward":     {false, (*block).forward},
	"health":      {true, (*block).health},
	"kubernetes":  {true, (*block).kube},
	"loadbalance": {false, (*block).loadbalance},
	"log":         {true, func(b *block, l line) error { b.settings.Queries = true; return noMore(l, 1) }},
	"loop":        {false, func(_ *block, l line) error { return noMore(l, 1) }},
	"prometheus":  {true, func(b *block, l line) error { return address(l, &b.settings.Metrics) }},
	"ratelimit":   {true, (*block).ratelimit},
	"ready":       {true, func(b *block, l line) error { return address(l, &b.settings.Ready) }},
	"reload":      {true, (*block).reload},
}

func (p *parser) block(l line) error {
	if !l.braces {
		return l.errorf("a block is wanted: zones, then braces")
	}
	b := &block{parser: p, seen: map[string]bool{}, limits: func(*Forward) {}}
	for _, w := range l.words {
		zone, err := zoneOf(strings.TrimSuffix(w, ","))
		if err != nil {
			return l.errorf("%w", err)
		}
		b.zones = append(b.zones, zone)
	}
	b.main = slices.Contains(b.zones, ".")
	if b.main && p.main != 0 {
		return l.errorf("line %d has a block for all names already", p.main)
	}
	if b.main {
		p.main = l.number
	}
	var problems []error
	for _, d := range l.body {
		problems = append(problems, b.directive(d))
	}
	switch {
	case b.main && !b.kubernetes:
		problems = append(problems, l.errorf("there is no line \"kubernetes %s\"", p.domain))
	case !b.main && len(b.forwards) == 0:
		problems = append(problems, l.errorf("there is no line \"forward . SERVER\""))
	}
	for _, f := range b.forwards {
		b.limits(&f)
		if slices.ContainsFunc(p.settings.Forwards, func(g Forward) bool { return g.Zone == f.Zone }) {
			problems = append(problems, l.errorf("%s is forwarded twice", f.Zone))
		}
		p.settings.Forwards = append(p.settings.Forwards, f)
	}
	return errors.Join(problems...)
}

func (b *block) directive(l line) error {
	d, known := directives[l.words[0]]
	switch {
	case !known:
		return l.errorf("not supported")
	case d.mainOnly && !b.main:
		return l.errorf("may only stand in the block for all names")
	case b.seen[l.words[0]] && l.words[0] != "forward":
		return l.errorf("stands twice in this block")
	}
	b.seen[l.words[0]] = true
	return d.read(b, l)
}

// zoneOf reads "example.com", "example.com:53", "dns://.:53".
func zoneOf(text string) (string, error) {
	text = strings.TrimPrefix(text, "dns://")
	if strings.Contains(text, "://") {
		return "", fmt.Errorf("%s: served are UDP and TCP only", text)
	}
	if host, port, found := strings.Cut(text, ":"); found {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", fmt.Errorf("%s: the port is not a number", text)
		}
		text = host // the port to serve on is a flag
	}
	if _, ok := dns.IsDomainName(text); !ok || text == "" {
		return "", fmt.Errorf("%q is not a domain", text)
	}
	return fqdn(text), nil
}

// noMore refuses what follows the first n words, and braces.
func noMore(l line, n int) error {
	switch {
	case len(l.words) > n:
		return l.errorf("%s: not supported", strings.Join(l.words[n:], " "))
	case l.braces:
		return l.errorf("takes no options in braces")
	}
	return nil
}

// options reads the lines between braces through a table.
func options(l line, table map[string]func(line) error) error {
	var problems []error
	for _, o := range l.body {
		read, known := table[o.words[0]]
		switch {
		case !known:
			problems = append(problems, o.errorf("not supported in %s", l.words[0]))
		default:
			problems = append(problems, read(o))
		}
	}
	return errors.Join(problems...)
}

// address reads "[ADDRESS]:PORT", which may be missing.
func address(l line, to *string) error {
	if len(l.words) < 2 {
		return noMore(l, 1)
	}
	if _, _, err := net.SplitHostPort(l.words[1]); err != nil {
		return l.errorf("%w", err)
	}
	*to = l.words[1]
	return noMore(l, 2)
}

func (b *block) autopath(l line) error {
	b.settings.Autopath = true
	if len(l.words) > 1 && l.words[len(l.words)-1] != "@kubernetes" || len(l.words) > 2 {
		return l.errorf("the search path is that of the cluster: \"autopath @kubernetes\"")
	}
	return noMore(l, 2)
}

func (b *block) health(l line) error {
	err := options(l, map[string]func(line) error{"lameduck": func(o line) error { return duration(o, 1, &b.settings.Lameduck) }})
	l.braces = false
	return errors.Join(err, address(l, &b.settings.Health))
}

func (b *block) loadbalance(l line) error {
	if len(l.words) > 1 && l.words[1] != "round_robin" {
		return l.errorf("%s is not supported: addresses take turns", l.words[1])
	}
	return noMore(l, 2)
}

func (b *block) reload(l line) error {
	if len(l.words) == 1 {
		return noMore(l, 1)
	}
	if err := duration(l, 1, &b.settings.Reload); err != nil {
		return err
	}
	b.settings.Reload = max(b.settings.Reload, time.Second)
	return noMore(l, 3) // the third is jitter: each server has its own file here
}

func (b *block) ratelimit(l line) error {
	if err := number(l, 1, 1, &b.settings.Rate); err != nil {
		return err
	}
	b.settings.Burst = b.settings.Rate
	if len(l.words) > 2 {
		if err := number(l, 2, 1, &b.settings.Burst); err != nil {
			return err
		}
	}
	return noMore(l, 3)
}

// kube reads "kubernetes cluster.local in-addr.arpa ip6.arpa { ... }".
func (b *block) kube(l line) error {
	b.kubernetes = true
	var problems []error
	for i, w := range l.words[1:] {
		zone := fqdn(w)
		reverse := strings.HasSuffix(zone, "in-addr.arpa.") || strings.HasSuffix(zone, "ip6.arpa.")
		if i == 0 && zone != b.domain || i > 0 && !reverse {
			problems = append(problems, l.errorf("%s is not the cluster domain %s, which is a flag", w, b.domain))
		}
	}
	return errors.Join(append(problems, options(l, map[string]func(line) error{
		"pods": func(o line) error {
			mode := strings.Join(o.words[1:], " ")
			if mode == "disabled" {
				mode = PodsOff
			}
			if mode != PodsInsecure && mode != PodsVerified && mode != PodsOff {
				return o.errorf("%q is none of disabled, insecure, verified", mode)
			}
			b.settings.Pods = mode
			return nil
		},
		"ttl": func(o line) error {
			seconds := 0
			err := number(o, 1, 0, &seconds)
			if seconds > 3600 {
				err = o.errorf("at most 3600")
			}
			b.settings.TTL = uint32(seconds)
			return err
		},
		// What the cluster does not know of the reverse zones goes to the servers upstream.
		"fallthrough": func(o line) error {
			for _, w := range o.words[1:] {
				if !strings.HasSuffix(fqdn(w), ".arpa.") {
					return o.errorf("%s: names of the cluster are its own; only reverse zones fall through", w)
				}
			}
			if len(o.words) == 1 {
				return o.errorf("name the reverse zones")
			}
			return nil
		},
	}))...)
}

// cache reads "cache [TTL] { ... }".
func (b *block) cache(l line) error {
	var problems []error
	maxTTL, maxDenial := time.Hour, 30*time.Minute
	minTTL, minDenial := time.Duration(0), time.Duration(0)
	if len(l.words) > 1 {
		seconds := 0
		problems = append(problems, number(l, 1, 1, &seconds))
		maxTTL = time.Duration(seconds) * time.Second
		maxDenial = min(maxTTL, maxDenial)
	}
	if len(l.words) > 2 {
		problems = append(problems, l.errorf("zones are not supported here: write a block for them"))
	}
	table := map[string]func(line) error{
		"success": func(o line) error { return b.capacity(o, &maxTTL, &minTTL) },
		"denial":  func(o line) error { return b.capacity(o, &maxDenial, &minDenial) },
	}
	if b.main {
		c := &b.settings.Cache
		table["prefetch"] = func(o line) error { return prefetch(o, &c.Prefetch) }
		table["serve_stale"] = func(o line) error { return stale(o, c) }
		table["servfail"] = func(o line) error {
			err := duration(o, 1, &c.ServeFail)
			c.ServeFail = min(c.ServeFail, 5*time.Minute)
			return err
		}
	}
	problems = append(problems, options(l, table))
	b.limits = func(f *Forward) { f.MaxTTL, f.MinTTL, f.MaxDenial, f.MinDenial = maxTTL, minTTL, maxDenial, minDenial }
	return errors.Join(problems...)
}

// capacity reads "success CAPACITY [TTL [MINTTL]]". The capacities of all blocks and kinds add up: there is one cache.
func (b *block) capacity(o line, most, least *time.Duration) error {
	n := 0
	if err := number(o, 1, 1, &n); err != nil {
		return err
	}
	b.settings.Cache.Capacity += n
	for i, to := range []*time.Duration{most, least} {
		if len(o.words) > i+2 {
			seconds := 0
			if err := number(o, i+2, 0, &seconds); err != nil {
				return err
			}
			*to = time.Duration(seconds) * time.Second
		}
	}
	return noMore(o, 4)
}

// prefetch reads "prefetch AMOUNT [DURATION [PERCENTAGE%]]".
func prefetch(o line, p *Prefetch) error {
	if err := number(o, 1, 0, &p.Amount); err != nil {
		return err
	}
	if len(o.words) > 2 {
		if err := duration(o, 2, &p.Gap); err != nil {
			return err
		}
	}
	if len(o.words) > 3 {
		text, percent := strings.CutSuffix(o.words[3], "%")
		n, err := strconv.Atoi(text)
		if err != nil || !percent || n < 1 || n > 90 {
			return o.errorf("%q is not a percentage from 1%% to 90%%", o.words[3])
		}
		p.Percent = n
	}
	return noMore(o, 4)
}

// stale reads "serve_stale [DURATION] [immediate|verify]".
func stale(o line, c *Cache) error {
	if len(o.words) > 1 {
		if err := duration(o, 1, &c.Stale); err != nil {
			return err
		}
	}
	c.Immediate = len(o.words) < 3 || o.words[2] == "immediate"
	if len(o.words) > 2 && o.words[2] != "immediate" && o.words[2] != "verify" {
		return o.errorf("%q is neither immediate nor verify", o.words[2])
	}
	return noMore(o, 3)
}

// forward reads "forward FROM TO... { ... }".
func (b *block) forward(l line) error {
	if len(l.words) < 3 {
		return l.errorf("a zone and at least one server are wanted")
	}
	f := DefaultForward("")
	f.Policy = Random // CoreDNS's default
	var problems []error
	for _, w := range l.words[2:] {
		to, err := server(w)
		if err != nil {
			problems = append(problems, l.errorf("%w", err))
		}
		f.To = append(f.To, to)
	}
	problems = append(problems, options(l, map[string]func(line) error{
		"except": func(o line) error {
			for _, w := range o.words[1:] {
				f.Except = append(f.Except, fqdn(w))
			}
			return nil
		},
		"expire":         func(o line) error { return duration(o, 1, &f.Expire) },
		"force_tcp":      func(o line) error { f.ForceTCP = true; return noMore(o, 1) },
		"prefer_udp":     func(o line) error { return noMore(o, 1) }, // as always
		"max_fails":      func(o line) error { return number(o, 1, 0, &f.MaxFails) },
		"max_concurrent": func(o line) error { return number(o, 1, 1, &f.MaxConcurrent) },
		"health_check": func(o line) error {
			if err := duration(o, 1, &f.HealthCheck); err != nil || f.HealthCheck >= 100*time.Millisecond {
				return err
			}
			return o.errorf("at least 100ms")
		},
		"tls_servername": func(o line) error { return one(o, &f.ServerName) },
		"tls": func(o line) error {
			if len(o.words) == 1 {
				return nil
			}
			return one(o, &f.CA)
		},
		"policy": func(o line) error {
			if err := one(o, &f.Policy); err != nil || slices.Contains([]string{Sequential, RoundRobin, Random}, f.Policy) {
				return err
			}
			return o.errorf("%q is none of %s, %s, %s", f.Policy, Random, RoundRobin, Sequential)
		},
	}))
	from := fqdn(l.words[1])
	for _, zone := range b.zones {
		g := f
		// "forward ." in a block is for the block's zones; a domain of its own must lie within.
		g.Zone = zone
		if from != "." {
			if !dns.IsSubDomain(zone, from) {
				continue
			}
			g.Zone = from
		}
		b.forwards = append(b.forwards, g)
	}
	return errors.Join(problems...)
}

// server reads "1.2.3.4", "1.2.3.4:53", "[::1]:53", "dns://1.2.3.4", "tls://1.2.3.4", "/etc/resolv.conf".
func server(text string) (string, error) {
	if strings.HasPrefix(text, "/") {
		return text, nil
	}
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		scheme, rest = "dns", text
	}
	port := map[string]uint16{"dns": 53, "tls": 853}[scheme]
	if port == 0 {
		return "", fmt.Errorf("%s: servers are spoken to by dns:// or tls://", text)
	}
	at, err := netip.ParseAddrPort(rest)
	if err != nil {
		addr, err := netip.ParseAddr(strings.Trim(rest, "[]"))
		if err != nil {
			return "", fmt.Errorf("%s is neither an address nor the path of a file", text)
		}
		at = netip.AddrPortFrom(addr, port)
	}
	if scheme == "tls" {
		return "tls://" + at.String(), nil
	}
	return at.String(), nil
}

func one(o line, to *string) error {
	if len(o.words) < 2 {
		return o.errorf("a value is wanted")
	}
	*to = o.words[1]
	return noMore(o, 2)
}

func number(o line, i, least int, to *int) error {
	if len(o.words) <= i {
		return o.errorf("a number is wanted")
	}
	n, err := strconv.Atoi(o.words[i])
	if err != nil || n < least || n > 1<<30 {
		return o.errorf("%q is not a number from %d on", o.words[i], least)
	}
	*to = n
	return nil
}

func duration(o line, i int, to *time.Duration) error {
	if len(o.words) <= i {
		return o.errorf("a duration is wanted, such as 5s")
	}
	d, err := time.ParseDuration(o.words[i])
	if n, failed := strconv.Atoi(o.words[i]); failed == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 0 {
		return o.errorf("%q is not a duration such as 5s", o.words[i])
	}
	*to = d
	return nil
}
