// Package csr works on requests for certificates in three controllers: one approves those of nodes, one signs what is
// approved, one deletes what is old.
//
// Reads requests and nodes, and the files of the authority; writes approvals, certificates and Events. What a signer
// does not sign fails with a condition that says why. A request for the signer of somebody else is left alone.
package csr

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"go.uber.org/zap"
	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/controllers/config"
	"hardway/controllers/control"
	"hardway/shared/client"
	"hardway/shared/reconcile"
)

// reviews asks the API server whether somebody may do something.
var reviews = client.Kind[authorizationv1.SubjectAccessReview, authorizationv1.SubjectAccessReview]{
	GroupVersion: authorizationv1.SchemeGroupVersion, Name: "SubjectAccessReview", Plural: "subjectaccessreviews",
}

// controller is what the three have in common.
type controller struct {
	env      control.Env
	log      *zap.Logger
	requests *client.Informer[request]
	nodes    *client.Informer[corev1.Node] // of the approver
	queue    *control.Queue
}

func newController(env control.Env, name string, r func(*controller) reconcile.Reconciler) *controller {
	c := &controller{env: env, log: env.Log.Named(name), requests: client.CertificateSigningRequests.Informer(env.Informers, client.Options{})}
	c.queue = env.Queue(name, 2, r(c))
	c.requests.OnChange(func(_, now *request) {
		if now != nil {
			c.queue.Add(reconcile.KeyOf(now))
		}
	})
	return c
}

// Run works until ctx ends.
func (c *controller) Run(ctx context.Context) error {
	return c.queue.Run(ctx, func() { control.Keys(c.queue, c.requests.All()) })
}

// NewApprover makes the controller that approves requests of nodes.
func NewApprover(env control.Env) (control.Runner, error) {
	c := newController(env, "certificate_approver", func(c *controller) reconcile.Reconciler { return c.approve })
	c.nodes = env.Nodes()
	return c, nil
}

func (c *controller) approve(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	r, ok := c.requests.Get("", key.Name)
	if !ok || is(r, certificatesv1.CertificateApproved) || is(r, certificatesv1.CertificateDenied) || len(r.Status.Certificate) > 0 {
		return reconcile.Result{}, nil
	}
	x, err := parse(r.Spec.Request)
	if err != nil {
		return reconcile.Result{}, reconcile.Terminal(fmt.Errorf("read certificate request %s: %w", r.Name, err))
	}
	message, err := c.approval(ctx, r, x)
	if err != nil || message == "" {
		return reconcile.Result{}, err
	}
	out := r.DeepCopy()
	now := metav1.Now()
	out.Status.Conditions = append(out.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "AutoApproved", Message: message, LastUpdateTime: now, LastTransitionTime: now,
	})
	if _, err := client.CertificateSigningRequests.Update(ctx, c.env.API, out, "approval"); control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("approve certificate request %s: %w", r.Name, err)
	}
	c.log.Info("approved certificate request", zap.String("name", r.Name), zap.String("user", r.Spec.Username))
	return reconcile.Result{}, nil
}

// approval is why a request is approved, "" if a person has to do it.
func (c *controller) approval(ctx context.Context, r *request, x *x509.CertificateRequest) (string, error) {
	for _, known := range recognizers {
		if !known.matches(r, x) {
			continue
		}
		may, err := c.may(ctx, r, known.subresource)
		if err != nil {
			return "", err
		}
		if may {
			return known.message, nil
		}
	}
	if !c.env.Config.ApproveServing {
		return "", nil
	}
	node, _ := c.nodes.Get("", trimNode(x.Subject.CommonName))
	if ownServing(r, x, node) {
		return "Approved: the node asks for its own names.", nil
	}
	return "", nil
}

func trimNode(user string) string {
	if len(user) > len(nodePrefix) {
		return user[len(nodePrefix):]
	}
	return ""
}

func (c *controller) may(ctx context.Context, r *request, subresource string) (bool, error) {
	extra := map[string]authorizationv1.ExtraValue{}
	for k, v := range r.Spec.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	got, err := reviews.Create(ctx, c.env.API, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: r.Spec.Username, UID: r.Spec.UID, Groups: r.Spec.Groups, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: certificatesv1.GroupName, Resource: "certificatesigningrequests", Verb: "create", Subresource: subresource, Version: "*",
		},
	}})
	if err != nil {
		return false, fmt.Errorf("ask whether %s may create certificatesigningrequests/%s: %w", r.Spec.Username, subresource, err)
	}
	return got.Status.Allowed, nil
}

// NeedsAuthority says that no authority to sign with is configured.
func NeedsAuthority(c config.Config) string {
	for name := range signers {
		if f := c.SignerFor(name); f.Cert != "" {
			return ""
		}
	}
	return "--cluster-signing-cert-file and --cluster-signing-key-file are not set"
}

// NewSigner makes the controller that signs what is approved.
func NewSigner(env control.Env) (control.Runner, error) {
	for name := range signers {
		if f := env.Config.SignerFor(name); f.Cert != "" {
			if _, _, err := (authority{f.Cert, f.Key}).load(); err != nil {
				return nil, fmt.Errorf("load the authority of %s: %w", name, err)
			}
		}
	}
	return newController(env, "certificate_signer", func(c *controller) reconcile.Reconciler { return c.sign }), nil
}

func (c *controller) sign(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	r, ok := c.requests.Get("", key.Name)
	if !ok || len(r.Status.Certificate) > 0 || !is(r, certificatesv1.CertificateApproved) || is(r, certificatesv1.CertificateDenied) || is(r, certificatesv1.CertificateFailed) {
		return reconcile.Result{}, nil
	}
	check, ours := signers[r.Spec.SignerName]
	files := c.env.Config.SignerFor(r.Spec.SignerName)
	if !ours || files.Cert == "" {
		return reconcile.Result{}, nil
	}
	x, err := parse(r.Spec.Request)
	if err == nil {
		err = check(x, r.Spec.Usages)
	}
	if err != nil {
		return reconcile.Result{}, c.fail(ctx, r, err)
	}
	certificate, err := (authority{files.Cert, files.Key}).sign(x, r.Spec, c.env.Config.SigningDuration, time.Now())
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("sign certificate request %s: %w", r.Name, err)
	}
	out := r.DeepCopy()
	out.Status.Certificate = certificate
	if _, err := client.CertificateSigningRequests.Update(ctx, c.env.API, out, "status"); control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("deliver the certificate of request %s: %w", r.Name, err)
	}
	c.log.Info("signed certificate", zap.String("name", r.Name), zap.String("signer", r.Spec.SignerName), zap.String("subject", x.Subject.CommonName))
	return reconcile.Result{}, nil
}

func (c *controller) fail(ctx context.Context, r *request, why error) error {
	out := r.DeepCopy()
	now := metav1.Now()
	out.Status.Conditions = append(out.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: "SignerValidationFailure", Message: why.Error(), LastUpdateTime: now, LastTransitionTime: now,
	})
	if _, err := client.CertificateSigningRequests.Update(ctx, c.env.API, out, "status"); control.Gone(err) != nil {
		return fmt.Errorf("refuse certificate request %s: %w", r.Name, err)
	}
	return nil
}

// NewCleaner makes the controller that deletes old requests.
func NewCleaner(env control.Env) (control.Runner, error) {
	return newController(env, "certificate_cleaner", func(c *controller) reconcile.Reconciler { return c.clean }), nil
}

func (c *controller) clean(ctx context.Context, key reconcile.Key) (reconcile.Result, error) {
	r, ok := c.requests.Get("", key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	if rest := time.Until(goes(r)); rest > 0 {
		return reconcile.Result{RequeueAfter: rest}, nil
	}
	err := client.CertificateSigningRequests.Delete(ctx, c.env.API, "", r.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &r.UID}})
	if control.Gone(err) != nil {
		return reconcile.Result{}, fmt.Errorf("delete old certificate request %s: %w", r.Name, err)
	}
	return reconcile.Result{}, nil
}
