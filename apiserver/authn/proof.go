package authn

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"hardway/apiserver/request"
)

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// webSocketProtocol begins the subprotocol in which browsers, which cannot set headers, send a token.
const webSocketProtocol = "base64url.bearer.authorization.k8s.io."

// webSocketToken returns the token of a WebSocket request as an Authorization header would say it, and takes it out of
// the offered protocols; empty without one.
func webSocketToken(r *http.Request) string {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return ""
	}
	token := ""
	var rest []string
	for _, header := range r.Header.Values("Sec-Websocket-Protocol") {
		for p := range strings.SplitSeq(header, ",") {
			p = strings.TrimSpace(p)
			encoded, ok := strings.CutPrefix(p, webSocketProtocol)
			if !ok {
				rest = append(rest, p)
				continue
			}
			if raw, err := base64.RawURLEncoding.DecodeString(encoded); err == nil && token == "" {
				token = "Bearer " + string(raw)
			}
		}
	}
	if token == "" || len(rest) == 0 { // one more protocol must be there to be chosen
		return ""
	}
	r.Header.Set("Sec-Websocket-Protocol", strings.Join(rest, ","))
	return token
}

// Proxy is an authenticating proxy in front of the API server. It must show a certificate of its own CA; then its headers
// say who asks.
type Proxy struct {
	Roots func() *x509.CertPool
	// Names are the common names that its certificate may have; empty: any.
	Names []string
	// UserHeaders, GroupHeaders, UIDHeaders and ExtraPrefixes are the headers, in order; the first that is there counts.
	UserHeaders, GroupHeaders, UIDHeaders, ExtraPrefixes []string
}

// user reads the headers of a request that comes from the proxy; nil for any other, whose headers are dropped, so that
// they cannot be mistaken further on.
func (p *Proxy) user(r *http.Request, now time.Time) *request.UserInfo {
	user := p.read(r.Header)
	p.drop(r.Header)
	if user == nil || presented(r) == nil || verify(r.TLS.PeerCertificates, p.Roots(), now) != nil ||
		len(p.Names) > 0 && !slices.Contains(p.Names, presented(r).Subject.CommonName) {
		return nil
	}
	r.Header.Del("Authorization")
	return user
}

func (p *Proxy) read(h http.Header) *request.UserInfo {
	name := first(h, p.UserHeaders)
	if name == "" {
		return nil
	}
	user := &request.UserInfo{Name: name, UID: first(h, p.UIDHeaders), Extra: map[string][]string{}}
	for _, header := range p.GroupHeaders {
		user.Groups = append(user.Groups, h.Values(header)...)
	}
	if !slices.Contains(user.Groups, request.Authenticated) {
		user.Groups = append(user.Groups, request.Authenticated)
	}
	for key, values := range h {
		for _, prefix := range p.ExtraPrefixes {
			if len(key) > len(prefix) && strings.EqualFold(key[:len(prefix)], prefix) {
				name := strings.ToLower(key[len(prefix):])
				if plain, err := url.PathUnescape(name); err == nil {
					name = plain
				}
				user.Extra[name] = append(user.Extra[name], values...)
			}
		}
	}
	return user
}

func (p *Proxy) drop(h http.Header) {
	for _, list := range [][]string{p.UserHeaders, p.GroupHeaders, p.UIDHeaders} {
		for _, name := range list {
			h.Del(name)
		}
	}
	for key := range h {
		for _, prefix := range p.ExtraPrefixes {
			if len(key) > len(prefix) && strings.EqualFold(key[:len(prefix)], prefix) {
				h.Del(key)
			}
		}
	}
}

func first(h http.Header, names []string) string {
	for _, name := range names {
		if v := strings.TrimSpace(h.Get(name)); v != "" {
			return v
		}
	}
	return ""
}

// row is a line of a file of tokens or passwords: secret,name,uid,"group1,group2".
type row struct {
	secret string
	user   *request.UserInfo
}

func readRows(path, what string) ([]row, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	defer f.Close()
	in := csv.NewReader(f)
	in.FieldsPerRecord, in.Comment, in.TrimLeadingSpace = -1, '#', true
	var rows []row
	for {
		fields, err := in.Read()
		if err == io.EOF { //nolint:errorlint // as csv promises
			return rows, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s %s: %w", what, path, err)
		}
		if len(fields) < 3 || fields[0] == "" || fields[1] == "" {
			line, _ := in.FieldPos(0)
			return nil, fmt.Errorf("read %s %s: line %d: secret,name,uid are wanted, and perhaps \"group1,group2\"", what, path, line)
		}
		user := &request.UserInfo{Name: fields[1], UID: fields[2]}
		if len(fields) > 3 && fields[3] != "" {
			for g := range strings.SplitSeq(fields[3], ",") {
				user.Groups = append(user.Groups, strings.TrimSpace(g))
			}
		}
		user.Groups = append(user.Groups, request.Authenticated)
		rows = append(rows, row{fields[0], user})
	}
}

// PasswordFile knows names and passwords.
type PasswordFile struct{ rows []row }

// OpenPasswordFile reads lines of password,name,uid,"group1,group2".
func OpenPasswordFile(path string) (*PasswordFile, error) {
	rows, err := readRows(path, "password file")
	return &PasswordFile{rows}, err
}

// User returns who has this name and password; nil: nobody. The time that it takes says nothing about either.
func (f *PasswordFile) User(name, password string) *request.UserInfo {
	var found *request.UserInfo
	for _, r := range f.rows {
		same := subtle.ConstantTimeCompare([]byte(r.user.Name), []byte(name)) & subtle.ConstantTimeCompare([]byte(r.secret), []byte(password))
		if same == 1 {
			found = r.user
		}
	}
	return found
}

// splitList reads a,b,c; empty parts are left out.
func splitList(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
