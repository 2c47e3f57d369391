package oidc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"sigs.k8s.io/yaml"

	"hardway/apiserver/authn"
)

// issuer is a server that publishes the public halves of its keys.
type issuer struct {
	*httptest.Server
	keys    map[string]*ecdsa.PrivateKey // by id
	fetched atomic.Int32
	says    string // who it says that it is; empty: its own URL
}

func newIssuer(t *testing.T, ids ...string) *issuer {
	t.Helper()
	i := &issuer{keys: map[string]*ecdsa.PrivateKey{}}
	i.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var doc any
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			says := i.says
			if says == "" {
				says = i.URL
			}
			doc = map[string]string{"issuer": says, "jwks_uri": i.URL + "/keys"}
		case "/keys":
			i.fetched.Add(1)
			set := jose.JSONWebKeySet{}
			for id, key := range i.keys {
				set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: id, Use: "sig", Algorithm: "ES256"})
			}
			doc = set
		default:
			w.WriteHeader(http.StatusNotFound)
			return
		}
		json.NewEncoder(w).Encode(doc) //nolint:errcheck // the client sees it
	}))
	t.Cleanup(i.Close)
	for _, id := range ids {
		i.add(t, id)
	}
	return i
}

func (i *issuer) add(t *testing.T, id string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.keys[id] = key
}

// sign makes a token.
func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, id string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

var start = time.Unix(1_700_000_000, 0)

// claims are those of a good token, with changes: nil takes one away.
func (i *issuer) claims(changes map[string]any) map[string]any {
	c := map[string]any{
		"iss": i.URL, "aud": "app", "sub": "ann", "exp": start.Add(time.Hour).Unix(), "iat": start.Unix(), "groups": []string{"dev", "ops"}, "email": "ann@x", "email_verified": true,
	}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func (i *issuer) authenticator(t *testing.T, config string, now func() time.Time) *Authenticator {
	t.Helper()
	var c Issuer
	if err := yaml.UnmarshalStrict([]byte(config), &c); err != nil {
		t.Fatal(err)
	}
	c.Issuer.URL = i.URL
	c.Issuer.CertificateAuthority = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}))
	if len(c.Issuer.Audiences) == 0 {
		c.Issuer.Audiences = []string{"app"}
	}
	a, err := New(c, Options{Audiences: []string{"api"}, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func still() time.Time { return start }

const plain = `claimMappings: {username: {claim: sub, prefix: ""}, groups: {claim: groups, prefix: "o:"}}`

func TestUsers(t *testing.T) {
	i := newIssuer(t, "k")
	for name, c := range map[string]struct {
		config  string
		changes map[string]any
		want    string // the user, or why not
	}{
		"by claims":              {plain, nil, "ann  [o:dev o:ops system:authenticated] map[]"},
		"one group":              {plain, map[string]any{"groups": "dev"}, "ann  [o:dev system:authenticated] map[]"},
		"no groups":              {plain, map[string]any{"groups": nil}, "ann  [system:authenticated] map[]"},
		"groups that are none":   {plain, map[string]any{"groups": []any{"a", 7}}, "groups: neither a string nor a list of strings"},
		"no name":                {plain, map[string]any{"sub": nil}, "username: it is empty"},
		"a name that is none":    {plain, map[string]any{"sub": 7}, `username: the claim "sub" is not a string`},
		"several audiences":      {plain, map[string]any{"aud": []string{"x", "app"}}, "ann"},
		"an id":                  {plain, map[string]any{"jti": "7"}, "map[authentication.kubernetes.io/credential-id:[JTI=7]]"},
		"verified email":         {`claimMappings: {username: {claim: email, prefix: ""}}`, nil, "ann@x"},
		"email, not verified":    {`claimMappings: {username: {claim: email, prefix: ""}}`, map[string]any{"email_verified": false}, "its email is not verified"},
		"by expressions":         {`claimMappings: {username: {expression: "'u:' + claims.sub"}, groups: {expression: "claims.groups.map(g, g + '!')"}, uid: {expression: "claims.sub + '-1'"}, extra: [{key: x.io/team, valueExpression: claims.groups}]}`, nil, "u:ann ann-1 [dev! ops! system:authenticated] map[x.io/team:[dev ops]]"},
		"an expression fails":    {`claimMappings: {username: {expression: claims.nick}}`, nil, "no such key: nick"},
		"an expression, no text": {`claimMappings: {username: {expression: claims.exp}}`, nil, "not a string"},
		"a claim that must be":   {plain + "\nclaimValidationRules: [{claim: hd, requiredValue: x.io}]", map[string]any{"hd": "x.io"}, "ann"},
		"a claim that is not":    {plain + "\nclaimValidationRules: [{claim: hd, requiredValue: x.io}]", nil, `its claim "hd" is not "x.io"`},
		"a rule":                 {plain + "\nclaimValidationRules: [{expression: 'claims.exp - claims.iat <= 60', message: lives too long}]", nil, "lives too long"},
		"a rule about users":     {plain + "\nuserValidationRules: [{expression: '!user.username.startsWith(\"system:\")', message: reserved}]", map[string]any{"sub": "system:admin"}, "reserved"},
		"a rule without message": {plain + "\nuserValidationRules: [{expression: 'user.groups.all(g, g != \"o:ops\")'}]", nil, "a rule is not kept: user.groups.all"},
	} {
		a := i.authenticator(t, c.config, still)
		id, err := a.Authenticate(t.Context(), sign(t, jose.ES256, i.keys["k"], "k", i.claims(c.changes)), nil)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(id.User.Name, " ", id.User.UID, " ", id.User.Groups, " ", id.User.Extra)
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestForgeries are tokens that must not be let in.
func TestForgeries(t *testing.T) {
	i := newIssuer(t, "k")
	a := i.authenticator(t, plain, still)
	foreign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := sign(t, jose.ES256, i.keys["k"], "k", i.claims(nil))
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	public, err := jose.JSONWebKey{Key: i.keys["k"].Public()}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	pieces := strings.Split(good, ".")
	for name, c := range map[string]struct {
		token     string
		audiences []string
		mine      bool
	}{
		"no signature":              {part(map[string]string{"alg": "none"}) + "." + pieces[1] + ".", nil, false},
		"no signature, capitals":    {part(map[string]string{"alg": "NONE", "kid": "k"}) + "." + pieces[1] + ".", nil, false},
		"signed with a public key":  {sign(t, jose.HS256, public, "k", i.claims(nil)), nil, false},
		"signed by somebody":        {sign(t, jose.ES256, foreign, "k", i.claims(nil)), nil, true},
		"signed by an unknown key":  {sign(t, jose.ES256, foreign, "x", i.claims(nil)), nil, true},
		"claims exchanged":          {pieces[0] + "." + part(i.claims(map[string]any{"sub": "root"})) + "." + pieces[2], nil, true},
		"for others":                {sign(t, jose.ES256, i.keys["k"], "k", i.claims(map[string]any{"aud": "other"})), nil, true},
		"for nobody":                {sign(t, jose.ES256, i.keys["k"], "k", i.claims(map[string]any{"aud": nil})), nil, true},
		"expired":                   {sign(t, jose.ES256, i.keys["k"], "k", i.claims(map[string]any{"exp": start.Unix()})), nil, true},
		"without an end":            {sign(t, jose.ES256, i.keys["k"], "k", i.claims(map[string]any{"exp": nil})), nil, true},
		"not yet valid":             {sign(t, jose.ES256, i.keys["k"], "k", i.claims(map[string]any{"nbf": start.Add(time.Minute).Unix()})), nil, true},
		"of another issuer":         {sign(t, jose.ES256, i.keys["k"], "k", i.claims(map[string]any{"iss": "https://other"})), nil, false},
		"another issuer in capital": {sign(t, jose.ES256, i.keys["k"], "k", i.claims(map[string]any{"iss": strings.ToUpper(i.URL)})), nil, false},
		"reviewed for others":       {good, []string{"vault"}, true},
		"cut":                       {pieces[0] + "." + pieces[1], nil, false},
		"nothing":                   {"..", nil, false},
	} {
		id, err := a.Authenticate(t.Context(), c.token, c.audiences)
		if err == nil {
			t.Errorf("%s: let in as %+v", name, id.User)
		} else if errors.Is(err, authn.ErrNotMine) == c.mine {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.Authenticate(t.Context(), good, nil); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestKeysAndMemory(t *testing.T) {
	i := newIssuer(t, "old")
	now := start
	a := i.authenticator(t, plain, func() time.Time { return now })
	try := func(id string, key *ecdsa.PrivateKey, changes map[string]any) error {
		_, err := a.Authenticate(t.Context(), sign(t, jose.ES256, key, id, i.claims(changes)), nil)
		return err
	}
	if err := try("old", i.keys["old"], nil); err != nil || i.fetched.Load() != 1 {
		t.Errorf("the first token: %v, %d fetches", err, i.fetched.Load())
	}
	i.add(t, "new")
	if err := try("new", i.keys["new"], nil); err == nil || i.fetched.Load() != 1 {
		t.Errorf("a new key, too soon: %v, %d fetches", err, i.fetched.Load())
	}
	now = now.Add(fetchPause)
	if err := try("new", i.keys["new"], map[string]any{"n": 1}); err != nil || i.fetched.Load() != 2 {
		t.Errorf("a new key: %v, %d fetches", err, i.fetched.Load())
	}
	if err := try("", i.keys["old"], map[string]any{"n": 2}); err != nil {
		t.Errorf("without a key id: %v", err)
	}
	i.Close()
	now = now.Add(time.Hour)
	if err := try("new", i.keys["new"], map[string]any{"exp": now.Add(time.Minute).Unix()}); err != nil {
		t.Errorf("the issuer is down, the key known: %v", err)
	}
	token := sign(t, jose.ES256, i.keys["new"], "new", i.claims(map[string]any{"exp": now.Add(5 * time.Second).Unix()}))
	if _, err := a.Authenticate(t.Context(), token, nil); err != nil {
		t.Error(err)
	}
	now = now.Add(5 * time.Second)
	if _, err := a.Authenticate(t.Context(), token, nil); err == nil {
		t.Error("remembered beyond its end")
	}
	other := newIssuer(t, "k")
	other.says = "https://somebody.else"
	if _, err := other.authenticator(t, plain, still).Authenticate(t.Context(), sign(t, jose.ES256, other.keys["k"], "k", other.claims(nil)), nil); err == nil || !strings.Contains(err.Error(), `it is of the issuer "https://somebody.else"`) {
		t.Errorf("a document of another issuer: %v", err)
	}
}

func TestLoad(t *testing.T) {
	const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"
	one := func(issuer, rest string) string {
		return head + "jwt: [{issuer: {" + issuer + "}, " + rest + "}]"
	}
	const good, names = "url: 'https://a.io', audiences: [x]", "claimMappings: {username: {claim: sub, prefix: ''}}"
	for text, want := range map[string]string{
		one(good, names): "",
		head + "anonymous: {enabled: true, conditions: [{path: /livez}]}": "",
		head + "anonymous: {enabled: false, conditions: [{path: livez}]}": "does not begin with /",
		"kind: Config": "an AuthenticationConfiguration of apiserver.config.k8s.io/v1 is wanted",
		one("url: 'http://a.io', audiences: [x]", names):                                                                          "is not an https URL",
		one("url: 'https://own.io', audiences: [x]", names):                                                                       "issues this cluster's service account tokens",
		one("url: 'https://a.io'", names):                                                                                         "issuer.audiences: at least one is needed",
		one("url: 'https://a.io', audiences: [x, y]", names):                                                                      "MatchAny is needed with several audiences",
		one(good+", egressSelectorType: cluster", names):                                                                          "there are no egress selectors here",
		one(good+", discoveryURL: 'https://a.io/'", names):                                                                        "or the issuer's own",
		one(good, "claimMappings: {}"):                                                                                            "jwt[0].claimMappings.username: either claim or expression is needed",
		one(good, "claimMappings: {username: {claim: sub}}"):                                                                      "username.prefix: is needed with claim",
		one(good, "claimMappings: {username: {expression: claims.email}}"):                                                        "must look at claims.email_verified",
		one(good, names+", claimValidationRules: [{claim: a, expression: b}]"):                                                    "either claim or expression is needed",
		one(good, "claimMappings: {username: {claim: sub, prefix: ''}, extra: [{key: a.k8s.io/b, valueExpression: claims.sub}]}"): "is reserved",
		one(good, "claimMappings: {username: {claim: sub, prefix: ''}, extra: [{key: nodomain, valueExpression: claims.sub}]}"):   "is not a path below a domain",
		strings.Replace(one(good, names), "}]", "}, {issuer: {"+good+"}, "+names+"}]", 1):                                         "stands there twice",
		head + "jwts: []": "unknown field",
	} {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path, []string{"https://own.io"})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s:\n%v, want %q", text, err, want)
		}
	}
	var c Issuer
	if err := yaml.Unmarshal([]byte("{issuer: {"+good+"}, "+names+", userValidationRules: [{expression: user.nick}], claimValidationRules: [{expression: claims.a +}]}"), &c); err != nil {
		t.Fatal(err)
	}
	if _, err := New(c, Options{}); err == nil || !strings.Contains(err.Error(), "undefined field 'nick'") || !strings.Contains(err.Error(), "claimValidationRules[0]: compile") {
		t.Errorf("bad expressions: %v", err)
	}
}

// BenchmarkRemembered is the cost of a token that was checked within the last seconds.
func BenchmarkRemembered(b *testing.B) {
	t := &testing.T{}
	i := newIssuer(t, "k")
	defer i.Close()
	a := i.authenticator(t, plain, still)
	token := sign(t, jose.ES256, i.keys["k"], "k", i.claims(nil))
	for b.Loop() {
		if _, err := a.Authenticate(b.Context(), token, nil); err != nil {
			b.Fatal(err)
		}
	}
}
