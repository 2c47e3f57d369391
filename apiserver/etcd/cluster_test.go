package etcd

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

// freeURLs are URLs that nobody listens on at the moment.
func freeURLs(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, "http://"+l.Addr().String())
	}
	return out
}

func TestThreeMembersAreOneCluster(t *testing.T) {
	peers := freeURLs(t, 3)
	var initial []string
	for i, u := range peers {
		initial = append(initial, fmt.Sprintf("m%d=%s", i, u))
	}
	members := make([]*Server, len(peers))
	var wg sync.WaitGroup
	for i, u := range peers {
		wg.Go(func() {
			s, err := Start(t.Context(), Options{
				DataDir: t.TempDir() + "/etcd", Name: fmt.Sprint("m", i), ListenPeer: []string{u},
				InitialCluster: strings.Join(initial, ","), Token: "test",
				Log: zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)),
			})
			if err != nil {
				t.Error(err)
			}
			members[i] = s
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	defer func() {
		for _, m := range members {
			m.Stop()
		}
	}()
	put, err := members[0].Client().Put(t.Context(), "/registry/a", "1")
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range members {
		if m.Revision() != nil {
			t.Errorf("member %d thinks that it knows the newest revision by itself", i)
		}
		got, err := m.Client().Get(t.Context(), "/registry/a")
		if err != nil || len(got.Kvs) != 1 || got.Kvs[0].ModRevision != put.Header.Revision {
			t.Errorf("member %d: %v %v", i, got, err)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no directory": {},
		"bad URL":      {DataDir: t.TempDir(), ListenClient: []string{"://"}},
		"host name":    {DataDir: t.TempDir(), ListenClient: []string{"http://example.com:1"}},
	} {
		if s, err := Start(t.Context(), o); err == nil {
			s.Stop()
			t.Errorf("%s: started", name)
		}
	}
	if _, err := Dial(t.Context(), External{}); err == nil {
		t.Error("connected to nothing")
	}
}
