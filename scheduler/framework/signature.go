package framework

import (
	"encoding/binary"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
)

// Signature is everything that plugins read of a pod, written down: pods with the same are placed alike. It is the
// encoding itself and no digest of it, so two pods cannot meet by accident.
type Signature string

// signed is a signature, with what it was made from besides the pod.
type signed struct {
	signature Signature
	epoch     int
	owners    string
}

// Sign returns the signature of a pod. owners is the selector of the Services and controllers that select it, nil for
// none. A plugin that reads more of a pod must add it here.
func (p *Pod) Sign(columns *Columns, owners labels.Selector) Signature {
	by := ""
	if owners != nil {
		by = owners.String()
	}
	if s := p.signed; s != nil && s.epoch == columns.Keys.Epoch && s.owners == by {
		return s.signature
	}
	w := writer{buf: make([]byte, 0, 256)}
	w.vector(p.Requests)
	w.vector(p.Asks)
	for _, port := range p.Ports {
		w.text(string(port.Protocol))
		w.text(port.Address)
		w.number(int64(port.Port))
	}
	w.end()
	w.text(p.Spec.NodeName)
	w.labels(p.Spec.NodeSelector, nil)
	for i := range p.Spec.Tolerations {
		w.message(&p.Spec.Tolerations[i])
	}
	w.end()
	if p.Spec.Affinity != nil {
		w.message(p.Spec.Affinity)
	}
	w.end()
	for i := range p.Spec.TopologySpreadConstraints {
		w.message(&p.Spec.TopologySpreadConstraints[i])
	}
	w.end()
	for i := range p.Spec.InitContainers {
		w.text(p.Spec.InitContainers[i].Image)
	}
	w.end()
	for i := range p.Spec.Containers {
		w.text(p.Spec.Containers[i].Image)
	}
	w.end()
	w.features(p)
	w.text(by)
	// Whom others select is told by namespace and labels.
	if columns.Keys.Len() > 0 || by != "" || p.Terms.Any() {
		w.text(p.Namespace)
		w.labels(p.Labels, func(key string) bool { return columns.Keys.Has(key) })
	}
	p.signed = &signed{signature: Signature(w.buf), epoch: columns.Keys.Epoch, owners: by}
	return p.signed.signature
}

// writer encodes fields so that no two different pods read alike: every text is preceded by its length.
type writer struct{ buf []byte }

func (w *writer) number(n int64) { w.buf = binary.AppendVarint(w.buf, n) }
func (w *writer) end()           { w.buf = append(w.buf, 0xff, 0xfe) }
func (w *writer) text(s string) {
	w.number(int64(len(s)))
	w.buf = append(w.buf, s...)
}

func (w *writer) vector(v Vector) {
	w.number(int64(len(v)))
	for _, n := range v {
		w.number(n)
	}
}

func (w *writer) labels(set map[string]string, keep func(key string) bool) {
	keys := make([]string, 0, len(set))
	for k := range set {
		if keep == nil || keep(k) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		w.text(k)
		w.text(set[k])
	}
	w.end()
}

// features are the fields that ask something of a node by what the node declares that it can do.
func (w *writer) features(p *Pod) {
	if p.Spec.HostUsers != nil && !*p.Spec.HostUsers {
		w.buf = append(w.buf, 'u')
	}
	if p.Spec.Resources != nil {
		w.buf = append(w.buf, 'r')
	}
	if p.Spec.OS != nil {
		w.text(string(p.Spec.OS.Name))
	}
	if !p.Features.IsEmpty() {
		w.text(p.Features.String())
	}
	w.end()
}

func (w *writer) message(m interface{ Marshal() ([]byte, error) }) {
	data, err := m.Marshal()
	if err != nil { // these types always encode
		panic(err)
	}
	w.text(string(data))
}
