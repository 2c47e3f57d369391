package crd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	kjson "sigs.k8s.io/json"

	"hardway/apiserver/webhook"
)

// converter turns an object of one version into another one.
type converter interface {
	// convert leaves the object as it is; the result may share parts with it.
	convert(ctx context.Context, u *object, apiVersion string) (*object, error)
}

// rename converts versions that have the same fields.
type rename struct{}

func (rename) convert(_ context.Context, u *object, apiVersion string) (*object, error) {
	out := &object{Object: maps.Clone(u.Object)}
	if meta, ok := u.Object["metadata"].(map[string]any); ok {
		out.Object["metadata"] = maps.Clone(meta)
	}
	out.SetAPIVersion(apiVersion)
	return out, nil
}

// conversionTimeout is how long a webhook may take. Upstream's figure.
const conversionTimeout = 30 * time.Second

// ask converts by a webhook.
type ask struct {
	caller *webhook.Caller
	target webhook.Target
}

// converterOf is the converter that a definition asks for.
func converterOf(d *apiextensionsv1.CustomResourceDefinition, caller *webhook.Caller) converter {
	c := d.Spec.Conversion
	if c == nil || c.Strategy != apiextensionsv1.WebhookConverter || c.Webhook == nil || c.Webhook.ClientConfig == nil {
		return rename{}
	}
	cc := c.Webhook.ClientConfig
	a := ask{caller: caller, target: webhook.Target{CA: cc.CABundle}}
	if cc.URL != nil {
		a.target.URL = *cc.URL
	}
	if s := cc.Service; s != nil {
		a.target.Service = &webhook.Service{Namespace: s.Namespace, Name: s.Name, Port: 443}
		if s.Path != nil {
			a.target.Service.Path = *s.Path
		}
		if s.Port != nil {
			a.target.Service.Port = *s.Port
		}
	}
	return a
}

func (a ask) convert(ctx context.Context, u *object, apiVersion string) (*object, error) {
	ctx, cancel := context.WithTimeout(ctx, conversionTimeout)
	defer cancel()
	raw, err := json.Marshal(u.Object)
	if err != nil {
		return nil, err
	}
	review := &apiextensionsv1.ConversionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: apiextensionsv1.SchemeGroupVersion.String(), Kind: "ConversionReview"},
		Request: &apiextensionsv1.ConversionRequest{
			UID: uuid.NewUUID(), DesiredAPIVersion: apiVersion, Objects: []runtime.RawExtension{{Raw: raw}},
		},
	}
	answer := &apiextensionsv1.ConversionReview{}
	if err := a.caller.Post(ctx, a.target, review, answer); err != nil {
		return nil, fmt.Errorf("conversion webhook for %s failed: %w", u.GroupVersionKind(), err)
	}
	if err := answered(review, answer); err != nil {
		return nil, fmt.Errorf("conversion webhook for %s failed: %w", u.GroupVersionKind(), err)
	}
	out := &object{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(answer.Response.ConvertedObjects[0].Raw, &out.Object); err != nil {
		return nil, fmt.Errorf("converted object: %w", err)
	}
	return out, same(u, out, apiVersion)
}

// answered checks that an answer is one to the question.
func answered(review, answer *apiextensionsv1.ConversionReview) error {
	r := answer.Response
	switch {
	case answer.APIVersion != review.APIVersion || answer.Kind != review.Kind:
		return fmt.Errorf("expected response of %s %s, got %q %q", review.APIVersion, review.Kind, answer.APIVersion, answer.Kind)
	case r == nil:
		return errors.New("no response provided")
	case r.UID != review.Request.UID:
		return fmt.Errorf("expected response.uid=%q, got %q", review.Request.UID, r.UID)
	case r.Result.Status != metav1.StatusSuccess:
		if r.Result.Message == "" {
			return fmt.Errorf("status %q without a message", r.Result.Status)
		}
		return errors.New(r.Result.Message)
	case len(r.ConvertedObjects) != 1:
		return fmt.Errorf("returned %d objects, expected 1", len(r.ConvertedObjects))
	}
	return nil
}

// same makes sure that a webhook changed nothing that it may not: all metadata but labels and annotations stay.
func same(in, out *object, apiVersion string) error {
	switch {
	case out.Object == nil:
		return errors.New("the converted object is null")
	case out.GetAPIVersion() != apiVersion || out.GetKind() != in.GetKind():
		return fmt.Errorf("converted into %s %s, wanted %s %s", out.GetAPIVersion(), out.GetKind(), apiVersion, in.GetKind())
	case out.GetName() != in.GetName():
		return fmt.Errorf("must have the same name: %v != %v", out.GetName(), in.GetName())
	case out.GetNamespace() != in.GetNamespace():
		return fmt.Errorf("must have the same namespace: %v != %v", out.GetNamespace(), in.GetNamespace())
	case out.GetUID() != in.GetUID():
		return fmt.Errorf("must have the same UID: %v != %v", out.GetUID(), in.GetUID())
	}
	labels, annotations := out.GetLabels(), out.GetAnnotations()
	meta, _ := in.Object["metadata"].(map[string]any)
	out.Object["metadata"] = maps.Clone(meta)
	if out.Object["metadata"] == nil {
		out.Object["metadata"] = map[string]any{}
	}
	out.SetLabels(labels)
	out.SetAnnotations(annotations)
	return nil
}
