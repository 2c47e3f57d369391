package proxy

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestPages(t *testing.T) {
	through := links{"/api/v1/namespaces/ns/pods/web/proxy", []string{"10.0.0.5:80", "cluster.example"}}
	const p = "/api/v1/namespaces/ns/pods/web/proxy"
	for title, c := range map[string]struct{ kind, in, want string }{
		"a link":               {"text/html", `<a href="/rewriteme">test</a>`, `<a href="` + p + `/rewriteme">test</a>`},
		"a folder, a query":    {"text/html; charset=utf-8", `<A HREF='/a/?b=c&amp;d#e'>`, `<a href="` + p + `/a/?b=c&amp;d#e">`},
		"to itself":            {"text/html", `<img src="http://10.0.0.5:80/x.png" alt="x"/>`, `<img src="` + p + `/x.png" alt="x"/>`},
		"as the client asked":  {"text/html", `<form action="https://cluster.example/send">`, `<form action="` + p + `/send">`},
		"relative":             {"text/html", `<a  href='next' >`, `<a  href='next' >`},
		"to somebody else":     {"text/html", `<a href="https://elsewhere.example/x">`, `<a href="https://elsewhere.example/x">`},
		"led here already":     {"text/html", `<a href="` + p + `/x">`, `<a href="` + p + `/x">`},
		"no link":              {"text/html", `<p title="/x">1 < 2 &nbsp;<!-- /x --></p>`, `<p title="/x">1 < 2 &nbsp;<!-- /x --></p>`},
		"what scripts contain": {"text/html", `<script>a("<a href='/x'>")</script>`, `<script>a("<a href='/x'>")</script>`},
		"no page":              {"text/plain", `<a href="/x">`, `<a href="/x">`},
		"cut off":              {"text/html", `text <a href="/x`, `text <a href="/x`},
	} {
		t.Run(title, func(t *testing.T) {
			for _, packed := range []bool{false, true} {
				resp := &http.Response{Header: http.Header{"Content-Type": {c.kind}}, Request: &http.Request{Method: http.MethodGet}}
				var body bytes.Buffer
				body.WriteString(c.in)
				if packed && c.kind != "text/plain" {
					resp.Header.Set("Content-Encoding", "gzip")
					body.Reset()
					z := gzip.NewWriter(&body)
					if _, err := z.Write([]byte(c.in)); err != nil || z.Close() != nil {
						t.Fatal(err)
					}
				}
				resp.Body = io.NopCloser(&body)
				if err := through.page(resp); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				if err != nil || string(got) != c.want || resp.Header.Get("Content-Encoding") != "" {
					t.Errorf("packed %v: %s, %v", packed, got, err)
				}
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	through := links{"/proxy", []string{"10.0.0.5:80"}}
	to := &url.URL{Scheme: "http", Host: "10.0.0.5:80", Path: "/a/b"}
	for location, want := range map[string]string{
		"/x/": "/proxy/x/", "c?d=e": "/proxy/a/c?d=e", "http://10.0.0.5:80/x": "/proxy/x", "http://other/x": "http://other/x", "/proxy/x": "/proxy/x",
	} {
		resp := &http.Response{Header: http.Header{"Location": {location}}, Body: io.NopCloser(strings.NewReader(""))}
		if err := through.relocate(resp, to); err != nil || resp.Header.Get("Location") != want {
			t.Errorf("%s: %s, %v", location, resp.Header.Get("Location"), err)
		}
	}
}
