package bootstrap

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func token(id string, fields ...string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secretName + id}, Data: map[string][]byte{
		"token-id": []byte(id), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-signing": []byte("true"),
	}}
	for i := 0; i < len(fields); i += 2 {
		s.Data[fields[i]] = []byte(fields[i+1])
	}
	return s
}

func TestSigned(t *testing.T) {
	later, before := now.Add(time.Hour).Format(time.RFC3339), now.Add(-time.Second).Format(time.RFC3339)
	data := signed(map[string]string{kubeconfig: "x", "jws-kubeconfig-old000": "y", "other": "z"}, []*corev1.Secret{
		token("aaaaaa"), token("bbbbbb", "expiration", later), token("cccccc", "expiration", before), token("dddddd", "usage-bootstrap-signing", "false"),
		token("eeeeee", "expiration", "soon"), token("ffffff", "token-id", "gggggg"),
	}, now)
	got := strings.Join(slices.Sorted(maps.Keys(data)), " ")
	if want := "jws-kubeconfig-aaaaaa jws-kubeconfig-bbbbbb kubeconfig other"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if left := signed(map[string]string{"jws-kubeconfig-aaaaaa": "y"}, []*corev1.Secret{token("aaaaaa")}, now); len(left) != 0 {
		t.Errorf("signed without content: %v", left)
	}
}

// TestSignature compares with a signature made by openssl:
// printf '%s.%s' HEADER CONTENT | openssl dgst -sha256 -hmac 0123456789abcdef -binary | base64.
func TestSignature(t *testing.T) {
	const want = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFhYWFhYSJ9..vh4yKqQb9ROYgF36oENmzq7Y4tnPm6-8JfkG7bH_PV4"
	if got := sign("hello", "aaaaaa", "0123456789abcdef"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
