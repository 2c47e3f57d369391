// Package webhook asks other people's servers by HTTPS and JSON: conversion and admission webhooks. They are found by a
// URL or by a Service of the cluster; a Service is reached at its cluster IP and proves that it is
// <name>.<namespace>.svc. Answers are bounded, redirects are not followed, and no request lasts longer than its context.
package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// maxAnswer bounds an answer: three objects of the largest size.
	maxAnswer = 9 << 20
	// maxClients bounds the connections that are kept.
	maxClients = 200
)

// Target is where a webhook is: exactly one of URL and Service.
type Target struct {
	URL     string
	Service *Service
	CA      []byte // PEM; empty: the system's
}

// Service is a webhook inside of the cluster.
type Service struct {
	Namespace, Name, Path string
	Port                  int32
}

// Caller calls webhooks, and keeps their connections.
type Caller struct {
	// resolve finds the address, host:port, of a Service.
	resolve func(ctx context.Context, namespace, name string, port int32) (string, error)
	clients *lru.Cache[string, *http.Client]
}

// New makes a Caller.
func New(resolve func(ctx context.Context, namespace, name string, port int32) (string, error)) *Caller {
	clients, err := lru.NewWithEvict(maxClients, func(_ string, c *http.Client) { c.CloseIdleConnections() })
	if err != nil {
		panic(err) // the size is a constant
	}
	return &Caller{resolve: resolve, clients: clients}
}

// Post sends in as JSON and reads the answer into out.
func (c *Caller) Post(ctx context.Context, t Target, in, out any) error {
	url, client, err := c.reach(t)
	if err != nil {
		return err
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, */*")
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer of %s: %w", url, err)
	case len(answer) > maxAnswer:
		return fmt.Errorf("the answer of %s is larger than %d bytes", url, maxAnswer)
	case res.StatusCode < 200 || res.StatusCode > 299:
		return fmt.Errorf("%s answered %s: %s", url, res.Status, strings.TrimSpace(string(answer[:min(len(answer), 1024)])))
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the answer of %s: %w", url, err)
	}
	return nil
}

// reach is the URL of a target and the client for it.
func (c *Caller) reach(t Target) (string, *http.Client, error) {
	url, key := t.URL, "url"
	if s := t.Service; s != nil {
		key = s.Namespace + "/" + s.Name + ":" + strconv.Itoa(int(s.Port))
		url = "https://" + net.JoinHostPort(s.Name+"."+s.Namespace+".svc", strconv.Itoa(int(s.Port))) + "/" + strings.TrimPrefix(s.Path, "/")
	}
	if !strings.HasPrefix(url, "https://") {
		return "", nil, fmt.Errorf("%q is no https URL", url)
	}
	sum := sha256.Sum256(t.CA)
	key += string(sum[:])
	if client, ok := c.clients.Get(key); ok {
		return url, client, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(t.CA) > 0 {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(t.CA) {
			return "", nil, errors.New("caBundle: there is no certificate in it")
		}
	}
	transport := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 25}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	transport.DialContext = dialer.DialContext
	if s := t.Service; s != nil {
		service := *s
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			address, err := c.resolve(ctx, service.Namespace, service.Name, service.Port)
			if err != nil {
				return nil, err
			}
			return dialer.DialContext(ctx, network, address)
		}
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	c.clients.Add(key, client)
	return url, client, nil
}
