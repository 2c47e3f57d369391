package proxy

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// longestToken bounds one tag of a page, in bytes. A page with a longer one is cut there.
const longestToken = 4 << 20

// linkAttributes are the attributes that hold a link, by element; those of upstream.
var linkAttributes = map[atom.Atom][]string{
	atom.A: {"href"}, atom.Applet: {"codebase"}, atom.Area: {"href"}, atom.Audio: {"src"}, atom.Base: {"href"},
	atom.Blockquote: {"cite"}, atom.Body: {"background"}, atom.Button: {"formaction"}, atom.Command: {"icon"}, atom.Del: {"cite"},
	atom.Embed: {"src"}, atom.Form: {"action"}, atom.Frame: {"longdesc", "src"}, atom.Head: {"profile"}, atom.Html: {"manifest"},
	atom.Iframe: {"longdesc", "src"}, atom.Img: {"longdesc", "src", "usemap"}, atom.Input: {"src", "usemap", "formaction"},
	atom.Ins: {"cite"}, atom.Link: {"href"}, atom.Object: {"classid", "codebase", "data", "usemap"}, atom.Q: {"cite"},
	atom.Script: {"src"}, atom.Source: {"src"}, atom.Video: {"poster", "src"},
}

// links makes links lead through this proxy.
type links struct {
	prefix string   // of the path of the proxy
	hosts  []string // what the backend is called, by itself and by the client
}

// through returns a link that leads through the proxy. A relative one does so already, and one to somebody else shall not.
func (l links) through(u *url.URL) *url.URL {
	if u.Host != "" && !slices.Contains(l.hosts, u.Host) || !strings.HasPrefix(u.Path, "/") {
		return u
	}
	out := &url.URL{Path: u.Path, RawQuery: u.RawQuery, Fragment: u.Fragment}
	if strings.HasPrefix(u.Path, l.prefix+"/") {
		return out
	}
	out.Path = path.Join(l.prefix, u.Path)
	if strings.HasSuffix(u.Path, "/") {
		out.Path += "/"
	}
	return out
}

// page makes the links of an answer that is a web page lead through the proxy. Anything else stays as it is.
func (l links) page(resp *http.Response) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // one that cannot be read is no page
	if kind != "text/html" || resp.Request.Method == http.MethodHead {
		return nil
	}
	plain := io.Reader(resp.Body)
	switch resp.Header.Get("Content-Encoding") {
	case "":
	case "gzip":
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			return fmt.Errorf("unpack the page: %w", err)
		}
		plain = z
	case "deflate":
		plain = flate.NewReader(resp.Body)
	default:
		return nil
	}
	tokens := html.NewTokenizer(plain)
	tokens.SetMaxBuf(longestToken)
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	resp.ContentLength = -1
	resp.Body = &page{links: l, tokens: tokens, Closer: resp.Body}
	return nil
}

// page is a web page that is rewritten while it is read.
type page struct {
	links
	tokens *html.Tokenizer
	ready  bytes.Buffer
	err    error
	io.Closer
}

func (p *page) Read(to []byte) (int, error) {
	for p.ready.Len() == 0 {
		if p.err != nil {
			return 0, p.err
		}
		p.next()
	}
	return p.ready.Read(to)
}

// next takes a token. One without a link that changes is passed on as it was written.
func (p *page) next() {
	kind := p.tokens.Next()
	if kind == html.ErrorToken {
		p.ready.Write(p.tokens.Raw())
		p.err = p.tokens.Err()
		return
	}
	raw := bytes.Clone(p.tokens.Raw()) // Token changes it
	if kind == html.StartTagToken || kind == html.SelfClosingTagToken {
		token := p.tokens.Token()
		if p.rewrite(&token) {
			p.ready.WriteString(token.String())
			return
		}
	}
	p.ready.Write(raw)
}

// rewrite changes the links of a tag, and says whether there were any.
func (p *page) rewrite(t *html.Token) (changed bool) {
	names := linkAttributes[t.DataAtom]
	for i := range t.Attr {
		a := &t.Attr[i]
		if !slices.Contains(names, a.Key) {
			continue
		}
		u, err := url.Parse(a.Val)
		if err != nil {
			continue // no link that a browser could follow
		}
		if link := p.through(u); link != u && link.String() != a.Val {
			a.Val, changed = link.String(), true
		}
	}
	return changed
}
