package registry

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hardway/apiserver/cache"
	"hardway/apiserver/store"
)

// List is one page of objects, ordered by namespace and name.
type List struct {
	Items     []*cache.Item
	Rev       int64  // the revision that the whole list shows
	Continue  string // empty: this is the last page
	Remaining *int64 // how many follow; nil when unknown, as with selectors
}

// List returns the objects that q selects. Without a resourceVersion it is linearizable.
func (r *Registry) List(ctx context.Context, q Query) (*List, error) {
	if err := q.check(false); err != nil {
		return nil, err
	}
	sel, err := r.selection(q)
	if err != nil {
		return nil, err
	}
	l := lister{r: r, sel: sel, limit: q.Limit, prefix: r.cache.Prefix()}
	if sel.Namespace != "" {
		l.prefix += sel.Namespace + "/"
	}
	page, err := l.list(ctx, q)
	if err != nil {
		return nil, r.status(err, "list", "")
	}
	return page, nil
}

// lister makes one page.
type lister struct {
	r      *Registry
	sel    *cache.Selection
	limit  int64
	prefix string // of the keys that the query can reach
	from   string // key to start from, empty: the first
}

func (l *lister) list(ctx context.Context, q Query) (*List, error) {
	if q.Continue != "" {
		return l.next(ctx, q)
	}
	rev, err := q.revision()
	if err != nil {
		return nil, err
	}
	// A first page at a given revision is exact unless the client says otherwise: upstream's oldest rule.
	exact := q.Match == metav1.ResourceVersionMatchExact || q.Match == "" && q.Limit > 0 && rev > 0
	switch {
	case exact:
		return l.exactly(ctx, rev)
	case q.ResourceVersion == "":
		return l.now(ctx)
	case rev > 0:
		if err := l.r.wait(ctx, rev); err != nil {
			return nil, err
		}
	}
	return l.cached()
}

// next goes on with a list.
func (l *lister) next(ctx context.Context, q Query) (*List, error) {
	if q.ResourceVersion != "" && q.ResourceVersion != "0" {
		return nil, apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
	}
	from, rev, err := decodeToken(q.Continue, l.prefix)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	l.from = from
	if rev < 0 {
		return l.now(ctx)
	}
	return l.exactly(ctx, rev)
}

// now lists the newest state.
func (l *lister) now(ctx context.Context) (*List, error) {
	_, err := l.r.cache.Feed().Fresh(ctx)
	var late *cache.NotFresh
	switch {
	case errors.As(err, &late):
		return l.stored(ctx, 0)
	case err != nil:
		return nil, err
	}
	return l.cached()
}

func (l *lister) cached() (*List, error) {
	s, err := l.r.cache.Snapshot()
	if err != nil {
		return nil, err
	}
	return l.page(s)
}

// exactly lists the state at a revision: from the cache if it remembers, else from etcd.
func (l *lister) exactly(ctx context.Context, rev int64) (*List, error) {
	if s := l.r.cache.At(rev); s != nil {
		return l.page(s)
	}
	page, err := l.stored(ctx, rev)
	switch {
	case errors.Is(err, store.ErrCompacted):
		return nil, expired(l.from, l.prefix)
	case errors.Is(err, store.ErrFuture):
		have, err := l.r.store.Revision(ctx)
		if err != nil {
			return nil, err
		}
		return nil, tooLarge(rev, have)
	}
	return page, err
}

// page takes a page from a snapshot, which is kept if there is more to come.
func (l *lister) page(s *cache.Snapshot) (*List, error) {
	if err := s.Damaged(l.sel); err != nil {
		return nil, err
	}
	out := &List{Rev: s.Rev}
	if l.limit <= 0 && l.sel.All() && l.sel.Namespace == "" {
		out.Items = make([]*cache.Item, 0, s.Len())
	}
	defer func() { l.r.cache.Listed(len(out.Items)) }()
	for it := range s.All(l.sel, l.from) {
		if l.limit > 0 && int64(len(out.Items)) == l.limit {
			last := out.Items[len(out.Items)-1].Key
			out.Continue = encodeToken(last, l.prefix, s.Rev)
			if l.sel.All() {
				remaining := s.Remaining(l.sel, last)
				out.Remaining = &remaining
			}
			l.r.cache.Keep(s)
			break
		}
		out.Items = append(out.Items, it)
	}
	return out, nil
}

// storePage is how many keys are read from etcd at once.
const storePage = 500

// stored reads a page from etcd, at a revision (0: now).
func (l *lister) stored(ctx context.Context, rev int64) (*List, error) {
	out := &List{}
	for from := l.from; ; {
		page, err := l.r.store.List(ctx, l.prefix, from, storePage, rev)
		if err != nil {
			return nil, err
		}
		rev = page.Rev
		out.Rev = rev
		for i, kv := range page.KVs {
			it, err := l.r.item(ctx, kv)
			if err != nil {
				return nil, err
			}
			if !l.sel.Matches(it) {
				continue
			}
			if l.limit > 0 && int64(len(out.Items)) == l.limit {
				out.Continue = encodeToken(out.Items[len(out.Items)-1].Key, l.prefix, rev)
				if l.sel.All() {
					remaining := page.Count - int64(i)
					out.Remaining = &remaining
				}
				return out, nil
			}
			out.Items = append(out.Items, it)
		}
		if !page.More {
			return out, nil
		}
		from = page.KVs[len(page.KVs)-1].Key + "\x00"
	}
}
