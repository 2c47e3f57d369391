package serviceaccount

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hardway/apiserver/request"
)

// Lives of tokens.
const (
	defaultLife = time.Hour
	leastLife   = 10 * time.Minute
	// mountedLife is what the pods' own token volumes ask for, in seconds: an odd number, by which they are known.
	mountedLife  = 3607
	extendedLife = 365 * 24 * time.Hour
)

// Default fills in the lifetime of a request.
func Default(r *authenticationv1.TokenRequest) {
	if r.Spec.ExpirationSeconds == nil {
		seconds := int64(defaultLife / time.Second)
		r.Spec.ExpirationSeconds = &seconds
	}
}

// Issue answers a TokenRequest about an account: it fills in its status, or returns a Status error.
func (t *Tokens) Issue(ctx context.Context, account *corev1.ServiceAccount, r *authenticationv1.TokenRequest) error {
	if t.signer == nil {
		return apierrors.NewInternalError(fmt.Errorf("no tokens are issued: the server has no --service-account-signing-key-file"))
	}
	Default(r)
	if len(r.Spec.Audiences) == 0 {
		r.Spec.Audiences = t.o.Audiences
	}
	if errs := validateRequest(r); len(errs) > 0 {
		return apierrors.NewInvalid(authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind(), "", errs)
	}
	b := &bound{Namespace: account.Namespace, ServiceAccount: object{account.Name, string(account.UID)}}
	if err := t.bind(b, account, r.Spec.BoundObjectRef); err != nil {
		return err
	}
	if most := int64(t.o.MaxLife / time.Second); most > 0 && *r.Spec.ExpirationSeconds > most {
		request.Warn(ctx, fmt.Sprintf("requested expiration of %d seconds shortened to %d seconds", *r.Spec.ExpirationSeconds, most))
		r.Spec.ExpirationSeconds = &most
	}
	now := t.o.Now()
	end := now.Add(time.Duration(*r.Spec.ExpirationSeconds) * time.Second)
	c := claims{Claims: jwt.Claims{
		Issuer: t.o.Issuers[0], Subject: UserPrefix + account.Namespace + ":" + account.Name, Audience: r.Spec.Audiences,
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(end), ID: newID(),
	}, Kubernetes: b}
	if t.o.Extend && *r.Spec.ExpirationSeconds == mountedLife && b.Pod != nil && t.forUs(r.Spec.Audiences) {
		b.WarnAfter = jwt.NewNumericDate(end)
		c.Expiry = jwt.NewNumericDate(now.Add(extendedLife))
	}
	token, err := jwt.Signed(t.signer).Claims(c).Serialize()
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("sign a token: %w", err))
	}
	r.Status = authenticationv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(end)}
	r.Name, r.Namespace = account.Name, account.Namespace
	r.CreationTimestamp = metav1.NewTime(now)
	return nil
}

// forUs says that a token is for this API server and nobody else.
func (t *Tokens) forUs(audiences []string) bool {
	for _, a := range audiences {
		if !slices.Contains(t.o.Audiences, a) {
			return false
		}
	}
	return true
}

func validateRequest(r *authenticationv1.TokenRequest) field.ErrorList {
	path := field.NewPath("spec", "expirationSeconds")
	switch seconds := *r.Spec.ExpirationSeconds; {
	case seconds < int64(leastLife/time.Second):
		return field.ErrorList{field.Invalid(path, seconds, "may not specify a duration less than 10 minutes")}
	case seconds > 1<<32:
		return field.ErrorList{field.Invalid(path, seconds, "may not specify a duration larger than 2^32 seconds")}
	}
	return nil
}

// bind ties a token to the object that the request names.
func (t *Tokens) bind(b *bound, account *corev1.ServiceAccount, to *authenticationv1.BoundObjectReference) error {
	if to == nil {
		return nil
	}
	var plural string
	var found metav1.Object
	switch gvk := schema.FromAPIVersionAndKind(to.APIVersion, to.Kind); gvk {
	case corev1.SchemeGroupVersion.WithKind("Pod"):
		plural = "pods"
		if pod := t.o.Objects.Pod(account.Namespace, to.Name); pod != nil {
			if pod.Spec.ServiceAccountName != account.Name {
				return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", account.Name))
			}
			found, b.Pod = pod, &object{pod.Name, string(pod.UID)}
			if pod.Spec.NodeName != "" {
				b.Node = &object{Name: pod.Spec.NodeName}
				if node := t.o.Objects.Node(pod.Spec.NodeName); node != nil {
					b.Node.UID = string(node.UID)
				}
			}
		}
	case corev1.SchemeGroupVersion.WithKind("Secret"):
		plural = "secrets"
		if s := t.o.Objects.Secret(account.Namespace, to.Name); s != nil {
			found, b.Secret = s, &object{s.Name, string(s.UID)}
		}
	case corev1.SchemeGroupVersion.WithKind("Node"):
		plural = "nodes"
		if n := t.o.Objects.Node(to.Name); n != nil {
			found, b.Node = n, &object{n.Name, string(n.UID)}
		}
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", gvk))
	}
	gr := schema.GroupResource{Resource: plural}
	if found == nil {
		return apierrors.NewNotFound(gr, to.Name)
	}
	if to.UID != "" && to.UID != types.UID(found.GetUID()) {
		return apierrors.NewConflict(gr, to.Name, fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", to.UID))
	}
	return nil
}

// JWKS are the public keys as OpenID providers publish them.
func (t *Tokens) JWKS() jose.JSONWebKeySet {
	var out jose.JSONWebKeySet
	for _, k := range t.keys {
		out.Keys = append(out.Keys, jose.JSONWebKey{Key: k.key, KeyID: k.id, Algorithm: string(k.alg), Use: "sig"})
	}
	return out
}

// Algorithms are those that tokens are signed with.
func (t *Tokens) Algorithms() []string {
	var out []string
	for _, k := range t.keys {
		if !slices.Contains(out, string(k.alg)) {
			out = append(out, string(k.alg))
		}
	}
	return out
}

// Issuer is this cluster's name in new tokens; Audiences are those of this API server.
func (t *Tokens) Issuer() string { return t.o.Issuers[0] }

// Audiences are the names of this API server in tokens.
func (t *Tokens) Audiences() []string { return t.o.Audiences }

func decodeSegment(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }
