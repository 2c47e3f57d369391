package autoscale

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// maxAnswer bounds what is read of one answer of a metrics API.
const maxAnswer = 64 << 20

// metrics asks the metrics APIs, which servers beside the API server serve through it.
type metrics struct {
	http *http.Client
	base *url.URL
}

func newMetrics(cfg *rest.Config) (*metrics, error) {
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client for metrics: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("address for metrics: %w", err)
	}
	return &metrics{h, base}, nil
}

// notServed says that no server answers for a metrics API.
type notServed struct{ path string }

func (e *notServed) Error() string { return "the API server does not serve " + e.path }

// send asks and decodes the answer into out; a body goes along as JSON.
func (m *metrics) send(ctx context.Context, method, at string, query url.Values, body io.Reader, out any) error {
	u := m.base.JoinPath(at)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := m.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", at, err)
	case resp.StatusCode == http.StatusNotFound:
		return &notServed{at}
	case resp.StatusCode >= 300:
		return fmt.Errorf("%s %s: %s: %s", method, at, resp.Status, messageOf(data))
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("decode %s: %w", at, err)
	}
	return nil
}

func messageOf(data []byte) string {
	var status metav1.Status
	if json.Unmarshal(data, &status) == nil && status.Message != "" {
		return status.Message
	}
	return fmt.Sprintf("%.200s", data)
}

// podUsage is the answer of the resource metrics API.
type podUsage struct {
	Items []struct {
		metav1.ObjectMeta `json:"metadata"`
		Timestamp         metav1.Time     `json:"timestamp"`
		Window            metav1.Duration `json:"window"`
		Containers        []struct {
			Name  string                       `json:"name"`
			Usage map[string]resource.Quantity `json:"usage"`
		} `json:"containers"`
	} `json:"items"`
}

// resource returns how much of a resource each pod, or one container of it, uses.
func (m *metrics) resource(ctx context.Context, namespace, selector, name, container string) (map[string]sample, error) {
	var got podUsage
	at := path.Join("apis/metrics.k8s.io/v1beta1/namespaces", namespace, "pods")
	if err := m.send(ctx, http.MethodGet, at, url.Values{"labelSelector": {selector}}, nil, &got); err != nil {
		return nil, err
	}
	out := map[string]sample{}
	for _, pod := range got.Items {
		var sum int64
		found := false
		for _, c := range pod.Containers {
			if q, ok := c.Usage[name]; ok && (container == "" || c.Name == container) {
				sum, found = sum+q.MilliValue(), true
			}
		}
		if found {
			out[pod.Name] = sample{sum, pod.Timestamp.Time, pod.Window.Duration}
		}
	}
	return out, nil
}

// values is the answer of the custom and the external metrics APIs.
type values struct {
	Items []struct {
		DescribedObject struct {
			Name string `json:"name"`
		} `json:"describedObject"`
		Timestamp     metav1.Time       `json:"timestamp"`
		WindowSeconds *int64            `json:"windowSeconds"`
		Value         resource.Quantity `json:"value"`
	} `json:"items"`
}

// custom returns a metric of the objects of a resource: one by name, or with "*" those that the selector selects.
func (m *metrics) custom(ctx context.Context, namespace, plural, name, metric string, objects, labels string) (map[string]sample, error) {
	query := url.Values{}
	if objects != "" {
		query.Set("labelSelector", objects)
	}
	if labels != "" {
		query.Set("metricLabelSelector", labels)
	}
	var got values
	at := path.Join("apis/custom.metrics.k8s.io/v1beta2/namespaces", namespace, plural, name, metric)
	if plural == "namespaces" {
		at = path.Join("apis/custom.metrics.k8s.io/v1beta2/namespaces", namespace, "metrics", metric)
	}
	if err := m.send(ctx, http.MethodGet, at, query, nil, &got); err != nil {
		return nil, err
	}
	out := map[string]sample{}
	for _, v := range got.Items {
		window := time.Minute
		if v.WindowSeconds != nil {
			window = time.Duration(*v.WindowSeconds) * time.Second
		}
		out[v.DescribedObject.Name] = sample{v.Value.MilliValue(), v.Timestamp.Time, window}
	}
	return out, nil
}

// external returns the sum of a metric that belongs to no object of the cluster.
func (m *metrics) external(ctx context.Context, namespace, metric, labels string) (int64, error) {
	var got values
	at := path.Join("apis/external.metrics.k8s.io/v1beta1/namespaces", namespace, metric)
	if err := m.send(ctx, http.MethodGet, at, url.Values{"labelSelector": {labels}}, nil, &got); err != nil {
		return 0, err
	}
	if len(got.Items) == 0 {
		return 0, fmt.Errorf("no value of the external metric %s", metric)
	}
	var sum int64
	for _, v := range got.Items {
		sum += v.Value.MilliValue()
	}
	return sum, nil
}
