package store

import (
	"bytes"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes/scheme"

	"hardway/apiserver/resource"
)

var podKind = resource.Define(scheme.Scheme, resource.Spec[corev1.Pod]{
	Names: resource.Names{Version: "v1", Kind: "Pod", Plural: "pods"},
	Scope: resource.Namespaced,
	Default: func(p *corev1.Pod) {
		if p.Spec.RestartPolicy == "" {
			p.Spec.RestartPolicy = corev1.RestartPolicyAlways
		}
	},
	Validate: func(*corev1.Pod) field.ErrorList { return nil },
})

func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "web-1", GenerateName: "web-", Namespace: "default", UID: "4f1c", ResourceVersion: "77",
			Generation: 3, Labels: map[string]string{"app": "web"}, CreationTimestamp: metav1.Unix(1700000000, 0),
			Finalizers: []string{"a/b"},
		},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, NodeName: "n1",
			Containers: []corev1.Container{{Name: "c", Image: "i:1"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

// upstream encodes with the published serializer, as upstream's apiserver does before it stores.
func upstream(t *testing.T, p *corev1.Pod) []byte {
	t.Helper()
	p = p.DeepCopy()
	p.ResourceVersion = ""
	p.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "Pod"})
	var b bytes.Buffer
	if err := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Encode(p, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestEncodeIsUpstreams(t *testing.T) {
	p := pod()
	got, err := NewCodec(podKind, nil).Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	if want := upstream(t, p); !bytes.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if p.ResourceVersion != "77" {
		t.Errorf("the object's resourceVersion became %q", p.ResourceVersion)
	}
}

func TestSplicedBytesAreTheEncodedObject(t *testing.T) {
	c := NewCodec(podKind, nil)
	bare := pod()
	bare.ObjectMeta = metav1.ObjectMeta{Name: "x"}
	for name, p := range map[string]*corev1.Pod{"full": pod(), "bare": bare} {
		for _, rev := range []int64{1, 99, 1234567890123} {
			d, err := c.Decode(t.Context(), upstream(t, p), rev)
			if err != nil {
				t.Fatal(err)
			}
			if d.Body == nil {
				t.Fatalf("%s: no body", name)
			}
			got, ok := AppendSpliced([]byte("x"), d.Body, rev)
			p.ResourceVersion = strconv.FormatInt(rev, 10)
			want, err := p.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if !ok || !bytes.Equal(got[1:], want) {
				t.Errorf("%s at %d: got\n%q\nwant\n%q", name, rev, got[1:], want)
			}
			if size, _ := SplicedSize(d.Body, rev); size != len(want) {
				t.Errorf("%s at %d: size %d, want %d", name, rev, size, len(want))
			}
		}
	}
}

func TestDecode(t *testing.T) {
	full := pod()
	noPolicy := pod()
	noPolicy.Spec.RestartPolicy = ""
	const json = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1"},"spec":{"restartPolicy":"Never"}}`
	for _, row := range []struct {
		name     string
		stored   []byte
		policy   corev1.RestartPolicy // empty: an error is expected
		withBody bool
	}{
		{"protobuf", upstream(t, full), corev1.RestartPolicyNever, true},
		{"defaults added", upstream(t, noPolicy), corev1.RestartPolicyAlways, false},
		{"JSON", []byte(json), corev1.RestartPolicyNever, false},
		{"another kind", []byte(`{"apiVersion":"v1","kind":"Node"}`), "", false},
		{"cut off", upstream(t, full)[:60], "", false},
		{"garbage", []byte("\x00\x01"), "", false},
		{"empty", nil, "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, err := NewCodec(podKind, nil).Decode(t.Context(), row.stored, 5)
			if row.policy == "" {
				if err == nil {
					t.Fatalf("no error, but %v", d.Object)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			p := d.Object.(*corev1.Pod)
			if p.Name != "web-1" || p.ResourceVersion != "5" || p.Kind != "Pod" || p.APIVersion != "v1" {
				t.Errorf("metadata: %v %v", p.TypeMeta, p.ObjectMeta)
			}
			if p.Spec.RestartPolicy != row.policy || (d.Body != nil) != row.withBody {
				t.Errorf("policy %q, body %v", p.Spec.RestartPolicy, d.Body != nil)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	c := NewCodec(podKind, nil)
	plain, _ := c.Encode(pod())
	f.Add(plain)
	f.Add([]byte(`{"apiVersion":"v1","kind":"Pod"}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		d, err := c.Decode(t.Context(), plain, 9)
		if err != nil || d.Body == nil {
			return
		}
		spliced, ok := AppendSpliced(nil, d.Body, 9)
		if size, _ := SplicedSize(d.Body, 9); ok && size != len(spliced) {
			t.Errorf("size %d, but %d bytes", size, len(spliced))
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	c := NewCodec(podKind, nil)
	plain, _ := c.Encode(pod())
	for b.Loop() {
		if _, err := c.Decode(b.Context(), plain, 9); err != nil {
			b.Fatal(err)
		}
	}
}
