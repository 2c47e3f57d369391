// Package review asks servers of other people to judge: whose token this is, who may do what, which images may run. Where
// they are, and as whom they are asked, is said by a kubeconfig file; the questions are the review kinds, as JSON.
//
// A question is asked again when the server cannot be reached or is in trouble, five times at most; answers are bounded,
// redirects are not followed. Answers remembers what was said, for as long as whoever asked wants to rely on it.
package review

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	attempts  = 5
	maxAnswer = 1 << 20
	// DefaultWait is how long to wait before the second attempt; each further one waits half as long again.
	DefaultWait = 500 * time.Millisecond
)

// Client asks one server. It is safe for concurrent use.
type Client struct {
	http *http.Client
	url  string
	wait time.Duration
}

// Open reads a kubeconfig file. Zero values mean DefaultWait, and no deadline but the context's.
func Open(kubeconfig string, wait, timeout time.Duration) (*Client, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", kubeconfig, err)
	}
	if u, err := url.Parse(config.Host); err != nil || u.Host == "" {
		return nil, fmt.Errorf("read %s: %q is no address", kubeconfig, config.Host)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", kubeconfig, err)
	}
	client.Timeout = timeout
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if wait == 0 {
		wait = DefaultWait
	}
	return &Client{http: client, url: config.Host, wait: wait}, nil
}

// errAnswer is an answer that is none: not 2xx. Only some are worth another attempt.
type errAnswer struct{ status int }

func (e *errAnswer) Error() string {
	return fmt.Sprintf("the answer is %d %s", e.status, http.StatusText(e.status))
}

func (e *errAnswer) again() bool { return e.status == http.StatusTooManyRequests || e.status >= 500 }

// Ask sends a question and reads the answer, which must be of the same kind, into another value.
func (c *Client) Ask(ctx context.Context, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	wait := c.wait
	for try := 1; ; try++ {
		err := c.once(ctx, body, answer)
		bad := (*errAnswer)(nil)
		if err == nil || try == attempts || ctx.Err() != nil || errors.As(err, &bad) && !bad.again() || errors.Is(err, errMalformed) {
			if err != nil {
				return fmt.Errorf("ask %s: %w", c.url, err)
			}
			return nil
		}
		select {
		case <-time.After(wait + rand.N(wait/5+1)):
			wait += wait / 2
		case <-ctx.Done():
			return fmt.Errorf("ask %s: %w", c.url, err)
		}
	}
}

// errMalformed is an answer that cannot be read.
var errMalformed = errors.New("the answer cannot be read")

func (c *Client) once(ctx context.Context, body []byte, answer any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return &errAnswer{resp.StatusCode}
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return err
	case len(text) > maxAnswer:
		return fmt.Errorf("%w: it is over %d bytes long", errMalformed, maxAnswer)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	return nil
}
