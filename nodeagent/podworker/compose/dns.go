package compose

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Limits that resolvers and the API keep to.
const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchChars = 2048
	maxHostname    = 63
)

// DNS is how names are resolved on the node and in the cluster.
type DNS struct {
	Servers []string // of the cluster
	Domain  string   // of the cluster, such as cluster.local
	Host    Resolver // of the node
}

// Resolver is the content of a resolv.conf.
type Resolver struct{ Servers, Searches, Options []string }

// ParseResolver reads a resolv.conf: nameservers add up, of search lines the last one counts.
func ParseResolver(text string) Resolver {
	var r Resolver
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			r.Servers = append(r.Servers, f[1])
		case "search":
			r.Searches = nil
			for _, s := range f[1:] {
				if s != "." {
					r.Searches = append(r.Searches, strings.TrimSuffix(s, "."))
				}
			}
		case "options":
			for _, o := range f[1:] {
				r.option(o)
			}
		}
	}
	return r
}

// option adds an option, replacing one of the same name.
func (r *Resolver) option(o string) {
	name, _, _ := strings.Cut(o, ":")
	i := slices.IndexFunc(r.Options, func(have string) bool {
		n, _, _ := strings.Cut(have, ":")
		return n == name
	})
	if i >= 0 {
		r.Options[i] = o
		return
	}
	r.Options = append(r.Options, o)
}

// ResolvConf returns the pod's resolv.conf by its dnsPolicy and dnsConfig, and a warning for the user when something
// had to be left out or could not be done as asked.
func ResolvConf(pod *corev1.Pod, dns DNS) (text, warning string) {
	r := Resolver{slices.Clone(dns.Host.Servers), slices.Clone(dns.Host.Searches), slices.Clone(dns.Host.Options)}
	policy := pod.Spec.DNSPolicy
	cluster := policy == corev1.DNSClusterFirstWithHostNet || (policy == corev1.DNSClusterFirst || policy == "") && !pod.Spec.HostNetwork
	switch {
	case policy == corev1.DNSNone:
		r = Resolver{}
	case cluster && len(dns.Servers) == 0:
		warning = fmt.Sprintf("pod: %q. kubelet does not have ClusterDNS IP configured and cannot create Pod using %q policy. "+
			"Falling back to %q policy.", pod.Name+"_"+pod.Namespace+"("+string(pod.UID)+")", corev1.DNSClusterFirst, corev1.DNSDefault)
	case cluster:
		r.Servers = slices.Clone(dns.Servers)
		r.Searches = append([]string{pod.Namespace + ".svc." + dns.Domain, "svc." + dns.Domain, dns.Domain}, r.Searches...)
		r.Options = []string{"ndots:5"}
	}
	if c := pod.Spec.DNSConfig; c != nil {
		r.Servers = append(r.Servers, c.Nameservers...)
		r.Searches = append(r.Searches, c.Searches...)
		for _, o := range c.Options {
			option := o.Name
			if o.Value != nil && *o.Value != "" {
				option += ":" + *o.Value
			}
			r.option(option)
		}
	}
	r.Servers, r.Searches = unique(r.Servers), unique(r.Searches)
	if len(r.Servers) > maxNameservers {
		r.Servers = r.Servers[:maxNameservers]
		warning = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: " +
			strings.Join(r.Servers, " ")
	}
	if fit := fitSearches(r.Searches); len(fit) < len(r.Searches) {
		r.Searches = fit
		warning = "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: " +
			strings.Join(fit, " ")
	}
	return r.String(), warning
}

// String writes the resolv.conf.
func (r Resolver) String() string {
	var b strings.Builder
	if len(r.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Searches, " "))
	}
	for _, s := range r.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(r.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.Options, " "))
	}
	return b.String()
}

func fitSearches(list []string) []string {
	if len(list) > maxSearches {
		list = list[:maxSearches]
	}
	for len(strings.Join(list, " ")) > maxSearchChars {
		list = list[:len(list)-1]
	}
	return list
}

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// Hostname returns what the pod calls itself, and its domain if it has one. With setHostnameAsFQDN the name is the
// whole of it; with hostNetwork it is the node's.
func Hostname(pod *corev1.Pod, node Node) (name, domain string, err error) {
	if pod.Spec.HostnameOverride != nil {
		return cut(*pod.Spec.HostnameOverride), "", nil
	}
	if pod.Spec.HostNetwork {
		return node.Hostname, "", nil
	}
	name = pod.Name
	if pod.Spec.Hostname != "" {
		if msgs := validation.IsDNS1123Label(pod.Spec.Hostname); len(msgs) > 0 {
			return "", "", fmt.Errorf("pod Hostname %q is not a valid DNS label: %s", pod.Spec.Hostname, strings.Join(msgs, ";"))
		}
		name = pod.Spec.Hostname
	}
	name = cut(name)
	if pod.Spec.Subdomain != "" {
		domain = fmt.Sprintf("%s.%s.svc.%s", pod.Spec.Subdomain, pod.Namespace, node.DNS.Domain)
	}
	if pod.Spec.SetHostnameAsFQDN != nil && *pod.Spec.SetHostnameAsFQDN && domain != "" {
		full := name + "." + domain
		if len(full) > maxHostname+1 {
			return "", "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long "+
				"(64 characters is the max, %d characters requested)", full, len(full))
		}
		return full, domain, nil
	}
	return name, domain, nil
}

// cut shortens a name to what the kernel takes, leaving no separator at its end.
func cut(name string) string {
	if len(name) <= maxHostname {
		return name
	}
	return strings.TrimRight(name[:maxHostname], "-.")
}

// Hosts returns the pod's /etc/hosts. hostFile is the node's, which pods with hostNetwork see.
func Hosts(pod *corev1.Pod, node Node, ips []string, hostFile string) (string, error) {
	var b strings.Builder
	if pod.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		b.WriteString(hostFile)
	} else {
		name, domain, err := Hostname(pod, node)
		if err != nil {
			return "", err
		}
		b.WriteString("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
		for _, ip := range ips {
			if domain != "" {
				short, _, _ := strings.Cut(name, ".")
				fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, short, domain, short)
			} else {
				fmt.Fprintf(&b, "%s\t%s\n", ip, name)
			}
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, a := range pod.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
		}
	}
	return b.String(), nil
}
