// Package corefile reads a configuration in CoreDNS's language.
//
// It is pure: text in, [Settings] out, or an error that names the line. One block answers for all names (".", with the cluster's names in its
// "kubernetes" line); each further block names stub domains and where to forward them. A directive or an option that has no counterpart here is
// refused by name, so nothing is read and ignored; what this server always does ("loop", "loadbalance") may be said.
package corefile

import (
	"errors"
	"fmt"
	"time"
)

// Settings are what a file says. Flags say what a process is (addresses to serve on, the cluster domain), this says what it answers.
type Settings struct {
	TTL      uint32 // of the cluster's names, in seconds
	Pods     string // PodsInsecure, PodsVerified or PodsOff
	Autopath bool
	Forwards []Forward
	Cache    Cache
	// Rate is how many questions a second each client may ask; 0: any number. Burst more may come at once.
	Rate, Burst int
	Queries     bool // log every query
	Errors      bool // log every failure
	Lameduck    time.Duration
	Reload      time.Duration // how often the file is looked at

	Health, Ready, Metrics string // addresses; empty: what the flags say
}

// How pod records (1-2-3-4.namespace.pod) are answered.
const (
	PodsInsecure = "insecure" // from the name alone
	PodsVerified = "verified" // if there is such a pod
	PodsOff      = "off"      // not at all
)

// Forward says who knows the names of a domain.
type Forward struct {
	Zone   string   // lower case, ending in a dot
	Except []string // names below it that are not forwarded
	// To are servers, "address:port", with "tls://" in front where TLS is spoken, or the path of a file in the form of resolv.conf.
	To            []string
	ServerName    string // of the TLS certificate; empty: the address
	CA            string // file with the authorities that are trusted; empty: the system's
	Policy        string // Sequential, RoundRobin or Random
	ForceTCP      bool
	MaxConcurrent int // questions under way; 0: what the flags say
	MaxFails      int // failures in a row before a server counts as down
	HealthCheck   time.Duration
	Expire        time.Duration // of idle connections
	MaxTTL        time.Duration // answers are remembered for no longer
	MinTTL        time.Duration // nor shorter
	MaxDenial     time.Duration // denials
	MinDenial     time.Duration
}

// Which server is asked first.
const (
	Sequential = "sequential" // the one that answered last
	RoundRobin = "round_robin"
	Random     = "random"
)

// Cache says what is remembered.
type Cache struct {
	Capacity  int // answers; 0: what the flags say
	ServeFail time.Duration
	Prefetch  Prefetch
	// Stale is how long an answer serves after its TTL when nobody upstream answers. With Immediate it is given at once, and asked for behind it.
	Stale     time.Duration
	Immediate bool
}

// Prefetch asks again before an answer runs out, if it was asked for so many times without a pause of Gap, and Percent of its TTL are left.
type Prefetch struct {
	Amount  int // 0: never
	Gap     time.Duration
	Percent int
}

// Default is what holds when nothing is said.
func Default() Settings {
	return Settings{TTL: 5, Pods: PodsInsecure, Reload: 5 * time.Second, Cache: Cache{ServeFail: time.Second, Stale: time.Hour,
		Prefetch: Prefetch{Amount: 3, Gap: time.Minute, Percent: 10}}}
}

// DefaultForward forwards all names of a domain.
func DefaultForward(zone string, to ...string) Forward {
	return Forward{Zone: zone, To: to, Policy: Sequential, MaxFails: 2, HealthCheck: 500 * time.Millisecond, Expire: 10 * time.Second,
		MaxTTL: time.Hour, MaxDenial: 30 * time.Minute}
}

// Parse reads a file for a cluster domain (with or without a dot at the end).
func Parse(text, domain string) (Settings, error) {
	s := Default()
	blocks, err := lines(text)
	if err != nil {
		return s, err
	}
	p := parser{settings: &s, domain: fqdn(domain)}
	var problems []error
	for _, b := range blocks {
		problems = append(problems, p.block(b))
	}
	if p.main == 0 {
		problems = append(problems, fmt.Errorf("no block answers for %s: write \".:53 { kubernetes %s ... }\"", p.domain, p.domain))
	}
	return s, errors.Join(problems...)
}
