package filter

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hardway/apiserver/authn/serviceaccount"
	"hardway/apiserver/authz"
	"hardway/apiserver/request"
)

// The headers by which a user acts as another one.
const (
	actUser  = "Impersonate-User"
	actGroup = "Impersonate-Group"
	actUID   = "Impersonate-Uid"
	actExtra = "Impersonate-Extra-"
)

// authenticationGroup is the API group of the made-up resources by which impersonation is granted.
const authenticationGroup = "authentication.k8s.io"

// impersonate replaces the user by the one that the headers name, if the user may act as every part of it: name, groups,
// uid, extras. 403 otherwise; the one who really asks is remembered for the audit log.
func (c *chain) impersonate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wish, err := impersonated(r.Header)
		if err != nil {
			c.Fail(w, r, apierrors.NewBadRequest(err.Error()))
			return
		}
		if wish == nil {
			next.ServeHTTP(w, r)
			return
		}
		state := request.StateOf(r.Context())
		for _, ask := range grants(wish) {
			d, reason, err := c.Authorizer.Authorize(r.Context(), state.User, ask)
			if d == authz.Allow {
				continue
			}
			if err != nil {
				reason = err.Error()
			}
			c.Fail(w, r, refuse(state.User, ask, reason))
			return
		}
		complete(wish)
		state.Impersonator, state.User = state.User, wish
		for name := range r.Header {
			if strings.HasPrefix(name, "Impersonate-") {
				r.Header.Del(name)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// refuse is the Status of a request that is not allowed.
func refuse(user *request.UserInfo, info *request.Info, reason string) error {
	msg := authz.Forbidden(user, info)
	if reason != "" {
		msg += ": " + reason
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: info.Group, Resource: info.Resource}, info.Name, errors.New(msg))
}

// impersonated reads the headers; nil when there are none.
func impersonated(h http.Header) (*request.UserInfo, error) {
	user := &request.UserInfo{Name: h.Get(actUser), UID: h.Get(actUID), Groups: slices.Clone(h.Values(actGroup)), Extra: map[string][]string{}}
	for name, values := range h {
		if len(name) <= len(actExtra) || !strings.EqualFold(name[:len(actExtra)], actExtra) {
			continue
		}
		key, err := url.PathUnescape(strings.ToLower(name[len(actExtra):]))
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		user.Extra[key] = slices.Clone(values)
	}
	if user.Name == "" {
		if user.UID != "" || len(user.Groups) > 0 || len(user.Extra) > 0 {
			return nil, fmt.Errorf("requested %v without impersonating a user", user)
		}
		return nil, nil
	}
	return user, nil
}

// grants are the questions that must all be answered yes.
func grants(u *request.UserInfo) []*request.Info {
	ask := func(group, resource, sub, namespace, name string) *request.Info {
		return &request.Info{IsResource: true, Verb: "impersonate", Group: group, Version: "v1", Resource: resource, Subresource: sub, Namespace: namespace, Name: name}
	}
	var out []*request.Info
	if namespace, name, ok := account(u.Name); ok {
		out = append(out, ask("", "serviceaccounts", "", namespace, name))
	} else {
		out = append(out, ask("", "users", "", "", u.Name))
	}
	for _, g := range u.Groups {
		out = append(out, ask("", "groups", "", "", g))
	}
	if u.UID != "" {
		out = append(out, ask(authenticationGroup, "uids", "", "", u.UID))
	}
	for _, key := range slices.Sorted(maps.Keys(u.Extra)) {
		for _, value := range u.Extra[key] {
			out = append(out, ask(authenticationGroup, "userextras", key, "", value))
		}
	}
	return out
}

// account splits the user name of a service account.
func account(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, serviceaccount.UserPrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && namespace != "" && name != ""
}

// complete adds the groups that everybody of the kind is in.
func complete(u *request.UserInfo) {
	if namespace, _, ok := account(u.Name); ok && len(u.Groups) == 0 {
		u.Groups = []string{serviceaccount.AllGroup, serviceaccount.AllGroup + ":" + namespace}
	}
	group := request.Authenticated
	if u.Name == request.Anonymous {
		group = request.Unauthenticated
	}
	if !slices.Contains(u.Groups, request.Authenticated) && !slices.Contains(u.Groups, request.Unauthenticated) {
		u.Groups = append(u.Groups, group)
	}
}
