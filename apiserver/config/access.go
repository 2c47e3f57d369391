package config

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/pflag"

	"hardway/apiserver/authz"
)

// Access says who is let in and who may do what.
type Access struct {
	// Modes are the names of the authorizers, in order.
	Modes []string
	// ABACFile is the policy of the authorizer ABAC. Webhook configures the authorizer Webhook.
	ABACFile string

	// Anonymous: nil means health and version only.
	Anonymous *bool
	// TokenFile and PasswordFile hold tokens and passwords; Bootstrap lets new nodes in with bootstrap tokens.
	TokenFile, PasswordFile string
	Bootstrap               bool

	// ServiceAccount has the keys of service account tokens, and what is written into them.
	ServiceAccount ServiceAccount
	// Proxy is an authenticating proxy in front of this server.
	Proxy Proxy

	// Outside is about servers of other people.
	Outside Outside

	// Enable and Disable change the list of admission plugins.
	Enable, Disable []string
	// AdmissionConfig is the file of an AdmissionConfiguration.
	AdmissionConfig string
}

// ServiceAccount is about tokens of service accounts.
type ServiceAccount struct {
	KeyFiles    []string
	SigningFile string
	Issuers     []string
	Audiences   []string
	JWKSURI     string
	MaxLife     time.Duration
	Extend      bool
}

// Proxy is an authenticating proxy: its CA, its names, and the headers in which it says who asks.
type Proxy struct {
	CA                                                 string
	Names                                              []string
	UserHeaders, GroupHeaders, UIDHeaders, ExtraPrefix []string
}

// DefaultIssuer is the name of a cluster that is given none.
const DefaultIssuer = "https://kubernetes.default.svc.cluster.local"

func defaultAccess() Access {
	return Access{
		Modes:          []string{"Node", "RBAC"},
		Outside:        defaultOutside(),
		ServiceAccount: ServiceAccount{Issuers: []string{DefaultIssuer}, Extend: true},
		Proxy:          Proxy{UserHeaders: []string{"X-Remote-User"}, GroupHeaders: []string{"X-Remote-Group"}, UIDHeaders: []string{"X-Remote-Uid"}, ExtraPrefix: []string{"X-Remote-Extra-"}},
	}
}

// optionalBool is a flag that tells "not given" from false.
type optionalBool struct{ to **bool }

func (o optionalBool) String() string {
	if o.to == nil || *o.to == nil {
		return ""
	}
	return fmt.Sprint(**o.to)
}

func (o optionalBool) Set(s string) error {
	var b bool
	switch s {
	case "true":
		b = true
	case "false":
	default:
		return fmt.Errorf("%q is neither true nor false", s)
	}
	*o.to = &b
	return nil
}

func (optionalBool) Type() string     { return "bool" }
func (optionalBool) IsBoolFlag() bool { return true }

func (a *Access) bind(fs *pflag.FlagSet) {
	fs.StringSliceVar(&a.Modes, "authorization-mode", a.Modes, "authorizers, in order: Node, RBAC, ABAC, Webhook, AlwaysAllow, AlwaysDeny")
	fs.StringVar(&a.ABACFile, "authorization-policy-file", "", "file of the policy for the authorizer ABAC")
	fs.Var(optionalBool{&a.Anonymous}, "anonymous-auth", "let anonymous requests through to the authorizers: true or false (default: only for health and version)")
	fs.Lookup("anonymous-auth").NoOptDefVal = "true"
	fs.StringVar(&a.TokenFile, "token-auth-file", "", "file of bearer tokens: token,name,uid,\"group1,group2\"")
	fs.StringVar(&a.PasswordFile, "basic-auth-file", "", "file of passwords: password,name,uid,\"group1,group2\"; passwords that travel are a risk, prefer certificates or tokens")
	fs.BoolVar(&a.Bootstrap, "enable-bootstrap-token-auth", false, "let new nodes in with bootstrap tokens")
	a.Outside.bind(fs)
	s := &a.ServiceAccount
	fs.StringSliceVar(&s.KeyFiles, "service-account-key-file", nil, "files of the keys that service account tokens may be signed with")
	fs.StringVar(&s.SigningFile, "service-account-signing-key-file", "", "file of the private key that signs new service account tokens")
	fs.StringSliceVar(&s.Issuers, "service-account-issuer", s.Issuers, "name of this cluster in tokens; further ones are accepted, too")
	fs.StringSliceVar(&s.Audiences, "api-audiences", nil, "names of this server in tokens (default: the issuers)")
	fs.StringVar(&s.JWKSURI, "service-account-jwks-uri", "", "address of the public keys in the OpenID document (default: this server's)")
	fs.DurationVar(&s.MaxLife, "service-account-max-token-expiration", 0, "longest life of new tokens, 0 for no bound")
	fs.BoolVar(&s.Extend, "service-account-extend-token-expiration", s.Extend, "let tokens mounted into pods live for a year, so that old programs need not read them again")
	p := &a.Proxy
	fs.StringVar(&p.CA, "requestheader-client-ca-file", "", "file of the CA of the authenticating proxy's certificate")
	fs.StringSliceVar(&p.Names, "requestheader-allowed-names", nil, "common names that the authenticating proxy's certificate may have (default: any)")
	fs.StringSliceVar(&p.UserHeaders, "requestheader-username-headers", p.UserHeaders, "headers that name the user")
	fs.StringSliceVar(&p.GroupHeaders, "requestheader-group-headers", p.GroupHeaders, "headers that name groups")
	fs.StringSliceVar(&p.UIDHeaders, "requestheader-uid-headers", p.UIDHeaders, "headers that carry the user's uid")
	fs.StringSliceVar(&p.ExtraPrefix, "requestheader-extra-headers-prefix", p.ExtraPrefix, "beginnings of headers with more about the user")
	fs.StringSliceVar(&a.Enable, "enable-admission-plugins", nil, "admission plugins to use beside the default ones")
	fs.StringSliceVar(&a.Disable, "disable-admission-plugins", nil, "default admission plugins not to use")
	fs.StringVar(&a.AdmissionConfig, "admission-control-config-file", "", "file with the configurations of admission plugins")
	fs.StringSliceVar(&a.Enable, "admission-control", nil, "old name of --enable-admission-plugins")
}

func (a *Access) validate() []error {
	var errs []error
	if err := authz.CheckModes(a.Modes); err != nil {
		errs = append(errs, fmt.Errorf("--authorization-mode: %w", err))
	}
	for _, m := range a.Modes {
		if m == "ABAC" && a.ABACFile == "" {
			errs = append(errs, errors.New("--authorization-policy-file is needed for the authorizer ABAC"))
		}
	}
	errs = append(errs, a.validateOutside()...)
	if len(a.ServiceAccount.Issuers) == 0 {
		errs = append(errs, errors.New("--service-account-issuer must not be empty"))
	}
	for _, issuer := range a.ServiceAccount.Issuers {
		if u, err := url.Parse(issuer); err != nil || u.Scheme != "" && u.Scheme != "https" {
			errs = append(errs, fmt.Errorf("--service-account-issuer: %q is neither a name nor an https URL", issuer))
		}
	}
	if a.ServiceAccount.MaxLife != 0 && (a.ServiceAccount.MaxLife < time.Hour || a.ServiceAccount.MaxLife > (1<<32)*time.Second) {
		errs = append(errs, errors.New("--service-account-max-token-expiration must be between 1h and 2^32 s"))
	}
	return errs
}
