package serve

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"hardway/apiserver/kinds"
)

func TestEnvelopeIsUpstreams(t *testing.T) {
	obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Data: map[string]string{"k": "v"}}
	gvk := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	obj.SetGroupVersionKind(gvk)
	var theirs bytes.Buffer
	if err := protobuf.NewSerializer(kinds.Scheme(), kinds.Scheme()).Encode(obj, &theirs); err != nil {
		t.Fatal(err)
	}
	message, err := obj.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if ours := envelope(gvk, message); !bytes.Equal(ours, theirs.Bytes()) {
		t.Errorf("ours   %q\ntheirs %q", ours, theirs.Bytes())
	}
}

func FuzzDecode(f *testing.F) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	message, err := pod.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	gvk := corev1.SchemeGroupVersion.WithKind("Pod")
	f.Add(2, envelope(gvk, message))
	f.Add(0, []byte(`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"ports":[{"containerPort":1e9}]}]}}`))
	f.Add(1, []byte("apiVersion: v1\nkind: Pod\nspec: &a {x: *a}\n"))
	f.Add(0, []byte(`{"kind":"List","items":[{}]}`))
	s := &Server{decoders: newDecoders(kinds.Scheme())}
	f.Fuzz(func(t *testing.T, enc int, data []byte) {
		c := &call{s: s, r: httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)}
		if err := c.decodeBytes(encoding(enc&0xff%3), data, &corev1.Pod{}, gvk, ""); err != nil && StatusOf(err).Code != http.StatusBadRequest {
			t.Errorf("a body that cannot be read is no bad request: %v", err)
		}
	})
}

func FuzzNegotiate(f *testing.F) {
	f.Add("application/json;as=Table;v=v1;g=meta.k8s.io,*/*;q=0.1", "pretty=1")
	f.Fuzz(func(t *testing.T, accept, query string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("Accept", accept)
		r.URL.RawQuery = query
		m, err := negotiate(r, true, true)
		if err == nil && (m.shape == asTable && m.encoding == inProtobuf) {
			t.Error("no table is written in protobuf")
		}
	})
}
