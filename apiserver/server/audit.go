package server

import (
	"context"
	"encoding/json"
	"fmt"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"sigs.k8s.io/yaml"

	"hardway/apiserver/audit"
	"hardway/apiserver/kinds"
	"hardway/shared/daemon"
)

// makeAuditor makes what writes requests down; none without a policy.
func (s *server) makeAuditor() error {
	c := &s.cfg.Audit
	if c.Policy == "" {
		if c.Log.Path != "" || c.Webhook.Kubeconfig != "" {
			s.log.Warn("no requests are written down: --audit-policy-file is not given")
		}
		return nil
	}
	policy, err := audit.Load(c.Policy)
	if err != nil {
		return &daemon.ConfigError{Err: err}
	}
	o := audit.Options{Policy: policy, Registry: s.reg, ToJSON: toJSON(kinds.Scheme()), Errors: s.log.Named("audit")}
	if c.Log.Path != "" {
		o.Log = &c.Log
	}
	if c.Webhook.Kubeconfig != "" {
		o.Webhook = &c.Webhook
	}
	if s.auditor, err = audit.New(o); err != nil {
		return &daemon.ConfigError{Err: err}
	}
	if c.Log.Path != "" {
		s.log.Info("writing requests down", zap.String("file", c.Log.Path))
	}
	return nil
}

// audit feeds the backends until the returned function is called: when nobody is served any more.
func (s *server) audit(ctx context.Context) (stop func()) {
	if s.auditor == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		s.auditor.Run(ctx)
		close(done)
	}()
	return func() {
		cancel()
		<-done
	}
}

// toJSON reads a body of any of the encodings that are served and makes JSON of it.
func toJSON(scheme *runtime.Scheme) func(mediaType string, body []byte) (json.RawMessage, error) {
	proto := protobuf.NewSerializer(scheme, scheme)
	return func(mediaType string, body []byte) (json.RawMessage, error) {
		if len(body) >= 4 && string(body[:4]) == "k8s\x00" {
			obj, gvk, err := proto.Decode(body, nil, nil)
			if err != nil {
				return nil, err
			}
			obj.GetObjectKind().SetGroupVersionKind(*gvk)
			return json.Marshal(obj)
		}
		if json.Valid(body) {
			return body, nil
		}
		text, err := yaml.YAMLToJSON(body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", mediaType, err)
		}
		return text, nil
	}
}
