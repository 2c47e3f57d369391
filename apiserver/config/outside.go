package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Outside is about servers of other people that know users or decide about access.
type Outside struct {
	// Authentication is the file of an AuthenticationConfiguration; OIDC the flags for a single issuer instead.
	Authentication string
	OIDC           OIDC
	// TokenWebhook is asked whose tokens are whose.
	TokenWebhook Webhook

	// Authorization is the file of an AuthorizationConfiguration, in the place of the modes; AccessWebhook is what the
	// mode Webhook asks.
	Authorization string
	AccessWebhook Webhook
	// modesGiven says that --authorization-mode was on the command line.
	modesGiven func() bool
}

// OIDC is one OpenID Connect issuer.
type OIDC struct {
	Issuer, Client, CAFile       string
	UsernameClaim, GroupsClaim   string
	UsernamePrefix, GroupsPrefix string
	Required                     map[string]string
	Algorithms                   []string
}

// Webhook is a server that is asked: its kubeconfig, the version of the questions, and how long answers hold.
type Webhook struct {
	Kubeconfig, Version string
	Remember, Refused   time.Duration
}

func defaultOutside() Outside {
	return Outside{
		OIDC:          OIDC{UsernameClaim: "sub", Algorithms: []string{"RS256"}},
		TokenWebhook:  Webhook{Version: "v1beta1", Remember: 2 * time.Minute},
		AccessWebhook: Webhook{Version: "v1beta1", Remember: 5 * time.Minute, Refused: 30 * time.Second},
	}
}

func (o *Outside) bind(fs *pflag.FlagSet) {
	fs.StringVar(&o.Authentication, "authentication-config", "", "file of an AuthenticationConfiguration: issuers of tokens, and anonymous requests")
	c := &o.OIDC
	fs.StringVar(&c.Issuer, "oidc-issuer-url", "", "https URL of the OpenID Connect issuer whose tokens are accepted")
	fs.StringVar(&c.Client, "oidc-client-id", "", "what such tokens must be meant for")
	fs.StringVar(&c.CAFile, "oidc-ca-file", "", "file of the CA of the issuer's certificate (default: the system's)")
	fs.StringVar(&c.UsernameClaim, "oidc-username-claim", c.UsernameClaim, "claim that is the user's name")
	fs.StringVar(&c.UsernamePrefix, "oidc-username-prefix", "", "prefix of users' names; - for none (default: the issuer's URL and #, none for the claim email)")
	fs.StringVar(&c.GroupsClaim, "oidc-groups-claim", "", "claim that holds the user's groups")
	fs.StringVar(&c.GroupsPrefix, "oidc-groups-prefix", "", "prefix of groups")
	fs.StringToStringVar(&c.Required, "oidc-required-claim", nil, "claim that must have a value: name=value")
	fs.StringSliceVar(&c.Algorithms, "oidc-signing-algs", c.Algorithms, "signature algorithms that are accepted")
	w := &o.TokenWebhook
	fs.StringVar(&w.Kubeconfig, "authentication-token-webhook-config-file", "", "kubeconfig of the server that is asked whose tokens are whose")
	fs.StringVar(&w.Version, "authentication-token-webhook-version", w.Version, "version of TokenReview that is sent: v1 or v1beta1")
	fs.DurationVar(&w.Remember, "authentication-token-webhook-cache-ttl", w.Remember, "how long its answers hold")
	fs.StringVar(&o.Authorization, "authorization-config", "", "file of an AuthorizationConfiguration, instead of --authorization-mode")
	w = &o.AccessWebhook
	fs.StringVar(&w.Kubeconfig, "authorization-webhook-config-file", "", "kubeconfig of the server that the authorizer Webhook asks")
	fs.StringVar(&w.Version, "authorization-webhook-version", w.Version, "version of SubjectAccessReview that is sent: v1 or v1beta1")
	fs.DurationVar(&w.Remember, "authorization-webhook-cache-authorized-ttl", w.Remember, "how long a yes holds")
	fs.DurationVar(&w.Refused, "authorization-webhook-cache-unauthorized-ttl", w.Refused, "how long a no holds")
	o.modesGiven = func() bool { return fs.Changed("authorization-mode") }
}

func (a *Access) validateOutside() (errs []error) {
	o := &a.Outside
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Authentication != "" && (o.OIDC.Issuer != "" || o.OIDC.Client != "") {
		bad("--authentication-config and --oidc-* exclude each other")
	}
	if (o.OIDC.Issuer == "") != (o.OIDC.Client == "") {
		bad("--oidc-issuer-url and --oidc-client-id go together")
	}
	uses := slices.Contains(a.Modes, "Webhook")
	switch {
	case o.Authorization != "" && o.modesGiven != nil && o.modesGiven(), o.Authorization != "" && o.AccessWebhook.Kubeconfig != "":
		bad("--authorization-config excludes --authorization-mode and --authorization-webhook-*")
	case uses && o.AccessWebhook.Kubeconfig == "" && o.Authorization == "":
		errs = append(errs, errors.New("--authorization-webhook-config-file is needed for the authorizer Webhook"))
	case !uses && o.AccessWebhook.Kubeconfig != "":
		bad("--authorization-webhook-config-file needs Webhook among --authorization-mode")
	}
	for flag, w := range map[string]Webhook{"--authentication-token-webhook-version": o.TokenWebhook, "--authorization-webhook-version": o.AccessWebhook} {
		if w.Version != "v1" && w.Version != "v1beta1" {
			bad("%s: %q is neither v1 nor v1beta1", flag, w.Version)
		}
		if w.Remember < 0 || w.Refused < 0 {
			bad("%s: answers cannot hold for less than no time", strings.TrimSuffix(flag, "-version")+"-cache-...")
		}
	}
	return errs
}
