package judge

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// probeTimeout bounds the question to one daemon, probeAnswer its answer in bytes.
const (
	probeTimeout = 5 * time.Second
	probeAnswer  = 10 << 10
)

// probed are the daemons that run beside an API server, where upstream's programs of the same job listen.
var probed = []struct{ name, url string }{
	{"controller-manager", "https://127.0.0.1:10257/healthz"},
	{"scheduler", "https://127.0.0.1:10259/healthz"},
}

// prober asks without looking at certificates: they are made for other names, and the answer is no secret.
var prober = &http.Client{Timeout: probeTimeout, Transport: &http.Transport{
	DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
}}

// Components asks the daemons of this machine and the store how they are.
func (j *Judge) Components(ctx context.Context) []*corev1.ComponentStatus {
	out := make([]*corev1.ComponentStatus, len(probed)+1)
	var asking sync.WaitGroup
	for i, p := range probed {
		asking.Go(func() {
			message, err := probe(ctx, p.url)
			out[i] = component(p.name, message, err)
		})
	}
	var err error
	if j.Etcd != nil {
		err = j.Etcd(ctx)
	}
	out[len(probed)] = component("etcd-0", "ok", err)
	asking.Wait()
	return out
}

func component(name, message string, err error) *corev1.ComponentStatus {
	healthy := corev1.ComponentCondition{Type: corev1.ComponentHealthy, Status: corev1.ConditionTrue, Message: message}
	if err != nil {
		healthy.Status, healthy.Message = corev1.ConditionFalse, err.Error()
	}
	return &corev1.ComponentStatus{ObjectMeta: metav1.ObjectMeta{Name: name}, Conditions: []corev1.ComponentCondition{healthy}}
}

func probe(ctx context.Context, url string) (message string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := prober.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // only the answer counts
	text, err := io.ReadAll(io.LimitReader(resp.Body, probeAnswer))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return string(text), nil
}
