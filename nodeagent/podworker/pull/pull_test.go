package pull

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// registry is a store whose pulls take a second.
type registry struct {
	mu      sync.Mutex
	present map[string]bool
	err     error
	pulls   int
	most    int
	now     int
}

func (r *registry) Get(ref string) (Image, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Image{}, r.present[ref]
}

func (r *registry) Pull(ctx context.Context, ref string, _ authn.Keychain) (Image, error) {
	r.mu.Lock()
	r.pulls++
	r.now++
	r.most = max(r.most, r.now)
	r.mu.Unlock()
	time.Sleep(time.Second)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now--
	if r.err == nil {
		r.present[ref] = true
	}
	return Image{}, r.err
}

func ensure(t *testing.T, p *Puller, image string, policy corev1.PullPolicy) (events string, err error) {
	t.Helper()
	var list []string
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}}
	_, err = p.Ensure(t.Context(), pod, &corev1.Container{Image: image, ImagePullPolicy: policy}, nil, func(_, reason, format string, args ...any) {
		list = append(list, reason+": "+fmt.Sprintf(format, args...))
	})
	return strings.Join(list, "; "), err
}

func TestPolicies(t *testing.T) {
	for _, tc := range []struct {
		name    string
		present bool
		policy  corev1.PullPolicy
		fails   error
		events  string
		reason  string
		pulls   int
	}{
		{"present", true, corev1.PullIfNotPresent, nil, `Pulled: Container image "img:1" already present on machine`, "", 0},
		{"absent", false, corev1.PullIfNotPresent, nil, `Pulling: Pulling image "img:1"; Pulled: Successfully pulled image "img:1" in 1s (1s including waiting). Image size: 0 bytes.`, "", 1},
		{"always", true, corev1.PullAlways, nil, `Pulling: Pulling image "img:1"; Pulled: Successfully pulled image "img:1" in 1s (1s including waiting). Image size: 0 bytes.`, "", 1},
		{"always fails although it is present", true, corev1.PullAlways, errors.New("no route"), `Pulling: Pulling image "img:1"; Failed: Failed to pull image "img:1": no route`, "ErrImagePull", 1},
		{"never and present", true, corev1.PullNever, nil, `Pulled: Container image "img:1" already present on machine`, "", 0},
		{"never", false, corev1.PullNever, nil, `ErrImageNeverPull: Container image "img:1" is not present with pull policy of Never`, "ErrImageNeverPull", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &registry{present: map[string]bool{"img:1": tc.present}, err: tc.fails}
				events, err := ensure(t, New(r, 1), "img:1", tc.policy)
				var f *Failure
				if errors.As(err, &f) != (tc.reason != "") || f != nil && f.Reason != tc.reason || events != tc.events || r.pulls != tc.pulls {
					t.Errorf("%v, events %q, %d pulls", err, events, r.pulls)
				}
			})
		})
	}
	if _, err := ensure(t, New(&registry{}, 1), "Bad::Name", corev1.PullAlways); err == nil || !strings.HasPrefix(err.Error(), "InvalidImageName") {
		t.Errorf("a name that is none: %v", err)
	}
}

func TestBackOffGrowsAndIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{present: map[string]bool{}, err: errors.New("down")}
		p := New(r, 1)
		var delays []time.Duration
		for range 7 {
			_, err := ensure(t, p, "img:1", corev1.PullIfNotPresent)
			var f *Failure
			errors.As(err, &f)
			delays = append(delays, f.Retry)
		}
		if fmt.Sprint(delays) != "[5s 10s 20s 40s 1m20s 2m0s 2m0s]" {
			t.Errorf("%v", delays)
		}
		p.Forget("u")
		_, err := ensure(t, p, "img:1", corev1.PullIfNotPresent)
		var f *Failure
		if errors.As(err, &f); f.Retry != 5*time.Second {
			t.Errorf("after Forget: %v", f.Retry)
		}
	})
}

func TestParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{present: map[string]bool{}}
		p := New(r, 2)
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				if _, err := ensure(t, p, fmt.Sprintf("img:%d", i%4), corev1.PullIfNotPresent); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if r.pulls != 4 || r.most != 2 {
			t.Errorf("%d pulls, %d at once; 4 images in 2 slots were asked for", r.pulls, r.most)
		}
	})
}

func TestKeychain(t *testing.T) {
	secret := func(kind corev1.SecretType, key, data string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Type: kind, Data: map[string][]byte{key: []byte(data)}}
	}
	k, err := Keychain([]*corev1.Secret{
		secret(corev1.SecretTypeDockerConfigJson, corev1.DockerConfigJsonKey,
			`{"auths":{"https://index.docker.io/v1/":{"username":"hub","password":"p"},"reg.io":{"username":"reg"},"reg.io/team":{"auth":"dGVhbTpwdw=="},"*.wild.io":{"username":"wild"}}}`),
		secret(corev1.SecretTypeDockercfg, corev1.DockerConfigKey, `{"old.io:5000":{"username":"old"}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{
		"busybox": "hub", "reg.io/x": "reg", "reg.io/team/x": "team", "reg.io/teams/x": "reg", "a.wild.io/x": "wild", "wild.io/x": "", "old.io:5000/x": "old", "other.io/x": "",
	} {
		r, err := name.ParseReference(ref)
		if err != nil {
			t.Fatal(err)
		}
		a, err := k.Resolve(r.Context())
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Authorization()
		if err != nil || c.Username != want {
			t.Errorf("%s: %q %v, want %q", ref, c.Username, err, want)
		}
	}
	_, err = Keychain([]*corev1.Secret{secret(corev1.SecretTypeDockerConfigJson, corev1.DockerConfigJsonKey, `{"auths": s3cret`)})
	if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "ns/s") {
		t.Errorf("a broken secret: %v", err)
	}
}
