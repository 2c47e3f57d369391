package arch

// modules are the Go modules of this repository by folder name. Each may import itself and shared, nothing else.
var modules = []string{"shared", "apiserver", "scheduler", "controllers", "nodeagent", "netproxy", "dns", "kubectl", "test"}

// programs are the modules whose main package is a daemon.
var programs = []string{"apiserver", "scheduler", "controllers", "nodeagent", "netproxy", "dns"}

// door says that of all product packages only some may import a library. Paths ending in "/..." stand for everything
// below, too.
type door struct {
	library string   // import path
	users   []string // packages that may
	why     string
}

var doors = []door{
	{"go.etcd.io/etcd/...", []string{"hardway/apiserver/store/...", "hardway/apiserver/etcd/..."},
		"only the apiserver opens etcd, and there only the store"},
	{"github.com/opencontainers/runc/...", []string{
		"hardway/nodeagent/runtime/...", "hardway/nodeagent/supervisor/...", "hardway/nodeagent/sandbox/...",
		"hardway/nodeagent/container/...", "hardway/nodeagent/cgroup/..."},
		"libcontainer's types move between releases, and each of its advisories must mean one place to look at"},
	{"github.com/opencontainers/cgroups/...", []string{
		"hardway/nodeagent/runtime/...", "hardway/nodeagent/supervisor/...", "hardway/nodeagent/sandbox/...",
		"hardway/nodeagent/container/...", "hardway/nodeagent/cgroup/..."},
		"cgroups are written in one place"},
	{"github.com/vishvananda/netlink/...", []string{
		"hardway/nodeagent/network/...", "hardway/netproxy/kernel/...", "hardway/netproxy/conntrack/...",
		"hardway/netproxy/netlab"}, // networks for tests
		"the kernel's network is changed in few places"},
	{"github.com/google/nftables/...", []string{"hardway/nodeagent/network/...", "hardway/netproxy/kernel/..."},
		"the kernel's firewall is changed in few places"},
	{"github.com/google/go-containerregistry/...", []string{
		"hardway/nodeagent/image/...", "hardway/nodeagent/podworker/...", "hardway/nodeagent/server"}, // names and credentials
		"images are read in one place"},
	{"github.com/gorilla/mux", []string{"hardway/apiserver/serve/..."}, "there is one table of routes"},
	{"go.uber.org/zap/zapcore", []string{"hardway/shared/logging", "hardway/apiserver/etcd"}, "logs look the same everywhere"},
}

// banned libraries are in no program, neither imported nor brought in by another library.
type banned struct {
	library string
	except  []string // import paths below library that are let through
	in      []string // programs for which the exceptions hold; empty: all
	why     string
}

// expressions are the published environments of CEL, which schemas of custom resources and admission policies are
// written for, with the types that they speak of and the switches that they read.
var expressions = []string{
	"k8s.io/apiserver/pkg/cel/...", "k8s.io/apiserver/pkg/apis/cel", "k8s.io/apiserver/pkg/authentication/user",
	"k8s.io/apiserver/pkg/authentication/serviceaccount", "k8s.io/apiserver/pkg/authorization/authorizer", "k8s.io/apiserver/pkg/features",
	"k8s.io/apiserver/pkg/util/feature", "k8s.io/apiserver/pkg/util/compatibility", "k8s.io/apiserver/pkg/warning",
}

var bans = []banned{
	{library: "k8s.io/kubernetes/...", why: "the engines are what this project writes"},
	{library: "k8s.io/apiserver/...", except: expressions, in: []string{"apiserver"}, why: "serving and storage are what this project writes"},
	{library: "k8s.io/client-go/kubernetes/...", except: []string{"k8s.io/client-go/kubernetes/scheme"}, in: []string{"apiserver"},
		why: "the clientset is large; daemons use hardway/shared/client"},
	{library: "k8s.io/client-go/informers/...", why: "informers for every kind are large; daemons use hardway/shared/client"},
}

// pure packages decide: facts in, decision out. They reach nothing outside themselves.
var pure = []string{
	"hardway/nodeagent/plan", "hardway/netproxy/plan", "hardway/netproxy/policy", "hardway/netproxy/ingress/route", "hardway/dns/zone", "hardway/scheduler/cycle", "hardway/scheduler/plugins/...",
}

// impure are packages below those that act, too: the one plugin that binds, and the list that names it.
var impure = []string{"hardway/scheduler/plugins", "hardway/scheduler/plugins/defaultbinder"}

// outside is what a pure package must not import.
var outside = []string{
	"os", "os/exec", "net/http", "golang.org/x/sys/unix", "hardway/shared/client", "hardway/shared/daemon",
	"k8s.io/client-go/rest/...", "k8s.io/client-go/tools/...", "github.com/vishvananda/netlink/...",
}

// loggerSetup are the functions of zap that make or reach for a logger; only hardway/shared/logging uses them.
// (zap.NewNop, for code that may go without a log, is let through.)
var loggerSetup = []string{"New", "NewProduction", "NewDevelopment", "NewExample", "NewProductionConfig", "NewDevelopmentConfig", "L", "S", "ReplaceGlobals"}
