package corefile

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// usual is what cluster installers write.
const usual = `
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
`

func TestUsual(t *testing.T) {
	got, err := Parse(usual, "cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Errors, want.Lameduck, want.TTL, want.Metrics = true, 5*time.Second, 30, ":9153"
	f := DefaultForward(".", "/etc/resolv.conf")
	f.Policy, f.MaxConcurrent, f.MaxTTL, f.MaxDenial = Random, 1000, 30*time.Second, 30*time.Second
	want.Forwards = []Forward{f}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEverything(t *testing.T) {
	got, err := Parse(`
dns://.:53 {
  log   # every query
  autopath @kubernetes
  kubernetes cluster.local. {
    pods verified
  }
  ratelimit 100 200
  cache {
    success 9000 600 5
    denial 1000 60
    prefetch 5 2m 20%
    serve_stale 2h verify
    servfail 10s
  }
  forward . tls://9.9.9.9 tls://[2620:fe::fe]:8853 {
    tls "/etc/ca of mine.pem"
    tls_servername dns.quad9.net
    policy round_robin
    except intern.example corp.example
    max_fails 3
    health_check 2s
    expire 30s
  }
  reload 10s
  health :8081
}
Corp.Example:53 lab.example {
  cache 10
  forward . 10.1.2.3 10.1.2.4:5353 {
    force_tcp
    policy sequential
  }
}`, "cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{TTL: 5, Pods: PodsVerified, Autopath: true, Rate: 100, Burst: 200, Queries: true, Reload: 10 * time.Second, Health: ":8081",
		Cache: Cache{Capacity: 10000, ServeFail: 10 * time.Second, Stale: 2 * time.Hour, Prefetch: Prefetch{5, 2 * time.Minute, 20}}}
	quad := DefaultForward(".", "tls://9.9.9.9:853", "tls://[2620:fe::fe]:8853")
	quad.CA, quad.ServerName, quad.Policy, quad.Except = "/etc/ca of mine.pem", "dns.quad9.net", RoundRobin, []string{"intern.example.", "corp.example."}
	quad.MaxFails, quad.HealthCheck, quad.Expire = 3, 2*time.Second, 30*time.Second
	quad.MaxTTL, quad.MinTTL, quad.MaxDenial = 10*time.Minute, 5*time.Second, time.Minute
	corp := DefaultForward("corp.example.", "10.1.2.3:53", "10.1.2.4:5353")
	corp.ForceTCP, corp.MaxTTL, corp.MaxDenial = true, 10*time.Second, 10*time.Second
	lab := corp
	lab.Zone = "lab.example."
	want.Forwards = []Forward{quad, corp, lab}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestRefused(t *testing.T) {
	main := func(lines string) string { return ". {\nkubernetes cluster.local\n" + lines + "\n}" }
	for name, test := range map[string]struct{ text, want string }{
		"nothing":                    {"", "no block answers for cluster.local."},
		"an unknown directive":       {main("rewrite name a b"), "line 3: rewrite: not supported"},
		"an unknown option":          {main("forward . 1.1.1.1 {\nnext NXDOMAIN\n}"), "line 4: next: not supported in forward"},
		"another cluster domain":     {". {\nkubernetes k8s.lan\n}", "line 2: kubernetes: k8s.lan is not the cluster domain cluster.local."},
		"a server by name":           {main("forward . dns.example"), "line 3: forward: dns.example is neither an address"},
		"a server over HTTPS":        {main("forward . https://1.1.1.1"), "spoken to by dns:// or tls://"},
		"a block that serves TLS":    {"tls://. {\nkubernetes cluster.local\n}", "served are UDP and TCP only"},
		"a stub without servers":     {main("") + "\ncorp.example {\nerrors\n}", "line 5: corp.example: there is no line"},
		"a stub with main's options": {main("") + "\ncorp.example {\nforward . 1.1.1.1\nhealth\n}", "line 7: health: may only stand"},
		"two main blocks":            {main("") + "\n" + main(""), "line 1 has a block for all names already"},
		"a domain forwarded twice":   {main("forward . 1.1.1.1\nforward . 2.2.2.2"), "is forwarded twice"},
		"an open brace":              {". {\nkubernetes cluster.local", "line 1: the brace is never closed"},
		"a brace too many":           {main("") + "\n}", "line 5: a brace closes"},
		"an open quote":              {main(`log "x`), "line 3: a quote is never closed"},
		"a bad duration":             {main("reload soon"), `line 3: reload: "soon" is not a duration`},
		"a check without a pause":    {main("forward . 1.1.1.1 {\nhealth_check 0s\n}"), "line 4: health_check: at least 100ms"},
		"a bad number":               {main("ratelimit 0"), `line 3: ratelimit: "0" is not a number from 1 on`},
		"a word too many":            {main("ready :8181 x"), "line 3: ready: x: not supported"},
		"cluster names elsewhere":    {". {\nkubernetes cluster.local {\nfallthrough\n}\n}", "name the reverse zones"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(test.text, "cluster.local")
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(usual)
	f.Add(". {\nforward . tls://[::1]:1 {\nexcept \"a b\"\n}\n}")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text, "cluster.local")
		if err != nil {
			return
		}
		for _, fw := range s.Forwards {
			if len(fw.To) == 0 || fw.MaxTTL < 0 || fw.HealthCheck <= 0 || !strings.HasSuffix(fw.Zone, ".") {
				t.Errorf("accepted %+v", fw)
			}
		}
	})
}
