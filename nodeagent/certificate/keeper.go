package certificate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	firstLook     = 200 * time.Millisecond // at a request that waits for approval, doubling
	lastLook      = 5 * time.Second
	patience      = 15 * time.Minute // with one request; then another is made
	firstRetry    = time.Second
	lastRetry     = time.Minute
	callTimeout   = 10 * time.Second
	requestPrefix = "csr-"
)

// API is what is needed of the apiserver.
type API interface {
	Create(ctx context.Context, r *certificatesv1.CertificateSigningRequest) (*certificatesv1.CertificateSigningRequest, error)
	Get(ctx context.Context, name string) (*certificatesv1.CertificateSigningRequest, error)
}

// Keeper keeps one certificate, with its key, in File.
type Keeper struct {
	API  API
	Want Want
	File string
	Have func() // called, more than once, when File holds a certificate that can be used; nil: nobody asks
	Log  *zap.Logger
}

// Run gets the certificate when there is none, and renews it until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	at, retry := rand.Float64(), firstRetry
	for {
		c := Load(k.File)
		if c != nil && k.Have != nil && time.Now().Before(c.NotAfter) {
			k.Have()
		}
		wait := time.Until(k.Want.Due(c, at))
		if wait <= 0 {
			err := k.renew(ctx)
			if err == nil {
				at, retry = rand.Float64(), firstRetry
				continue
			}
			if ctx.Err() != nil {
				return nil
			}
			k.Log.Warn("certificate not renewed", zap.String("signer", k.Want.Signer), zap.Error(err))
			wait, retry = retry, min(2*retry, lastRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// renew gets a new certificate and stores it.
func (k *Keeper) renew(ctx context.Context) error {
	data, err := Request(ctx, k.API, k.Want)
	if err != nil {
		return err
	}
	c := parse(data)
	if !time.Now().Before(k.Want.Due(c, 0)) {
		return fmt.Errorf("the signer %s gave a certificate that is not what was asked for, or is over already", k.Want.Signer)
	}
	if err := store(k.File, data); err != nil {
		return err
	}
	k.Log.Info("certificate renewed", zap.String("signer", k.Want.Signer), zap.Time("expires", c.NotAfter))
	return nil
}

// Request gets a certificate: it writes a signing request and waits until that is signed, or refused. It returns
// certificate and key in PEM.
func Request(ctx context.Context, api API, w Want) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	key, csr, err := w.request()
	if err != nil {
		return nil, err
	}
	call, end := context.WithTimeout(ctx, callTimeout)
	made, err := api.Create(call, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: requestPrefix},
		Spec:       certificatesv1.CertificateSigningRequestSpec{Request: csr, SignerName: w.Signer, Usages: w.Usages},
	})
	end()
	if err != nil {
		return nil, fmt.Errorf("ask for a certificate by %s: %w", w.Signer, err)
	}
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		signed, err := answer(made)
		if err != nil {
			return nil, fmt.Errorf("request %s to %s: %w", made.Name, w.Signer, err)
		}
		if signed != nil {
			return append(bytes.TrimSuffix(signed, []byte("\n")), append([]byte("\n"), key...)...), nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("request %s to %s has not been signed: %w", made.Name, w.Signer, context.Cause(ctx))
		case <-time.After(wait):
		}
		call, end := context.WithTimeout(ctx, callTimeout)
		now, err := api.Get(call, made.Name)
		end()
		if err == nil {
			made = now
		} else if ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("look at request %s: %w", made.Name, err)
		}
	}
}

// answer is what has become of a request: a certificate, a refusal, or neither yet.
func answer(r *certificatesv1.CertificateSigningRequest) ([]byte, error) {
	for _, c := range r.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed) {
			return nil, fmt.Errorf("%s: %s: %s", c.Type, c.Reason, c.Message)
		}
	}
	if len(r.Status.Certificate) == 0 {
		return nil, nil
	}
	return r.Status.Certificate, nil
}
