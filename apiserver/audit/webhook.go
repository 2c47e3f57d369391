package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// WebhookOptions are the flags --audit-webhook-*.
type WebhookOptions struct {
	Kubeconfig string        // says where and as whom events are sent
	Backoff    time.Duration // before the first attempt is repeated
	Buffer     Buffer
}

// webhook sends lists of events to a server.
type webhook struct {
	client  *http.Client
	url     string
	backoff time.Duration
}

// The attempts to send a batch, and how long one may take.
const (
	attempts       = 5
	attemptTimeout = 30 * time.Second
)

func newWebhook(o WebhookOptions) (*webhook, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("audit webhook: %w", err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("audit webhook: %w", err)
	}
	client.Timeout = attemptTimeout
	if _, err := url.Parse(config.Host); err != nil || config.Host == "" {
		return nil, fmt.Errorf("audit webhook: %q is no address", config.Host)
	}
	return &webhook{client, config.Host, o.Backoff}, nil
}

// errRefused is an answer that another attempt would get, too.
type errRefused struct{ status string }

func (e *errRefused) Error() string { return "the audit webhook answered " + e.status }

func (w *webhook) write(ctx context.Context, events [][]byte) error {
	list := append([]byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`), bytes.Join(events, []byte{','})...)
	list = append(list, "]}"...)
	wait := w.backoff
	for try := 1; ; try++ {
		err := w.post(ctx, list)
		if refused := (*errRefused)(nil); err == nil || try == attempts || errors.As(err, &refused) {
			return err
		}
		select {
		case <-time.After(wait):
			wait *= 2
		case <-ctx.Done():
			return err
		}
	}
}

func (w *webhook) post(ctx context.Context, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)) // so that the connection can be used again
	switch {
	case resp.StatusCode < 300:
		return nil
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return fmt.Errorf("the audit webhook answered %s", resp.Status)
	}
	return &errRefused{resp.Status}
}

func (w *webhook) close() { w.client.CloseIdleConnections() }
