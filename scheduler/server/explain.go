package server

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"hardway/scheduler/cycle"
	"hardway/scheduler/framework"
	"hardway/scheduler/queue"
)

// nearest is how many of the nodes that come nearest are told of.
const nearest = 10

// explanation is what is known of a pod that waits.
type explanation struct {
	waiting queue.Waiting
	found   bool
	best    map[string]int64
	misses  []cycle.Miss
	nodes   int
}

// explain answers GET /debug/pods/<namespace>/<name>. The loop is asked between two decisions.
func (l *loop) explain(w http.ResponseWriter, r *http.Request) {
	namespace, name := r.PathValue("namespace"), r.PathValue("name")
	answer := make(chan explanation, 1)
	if !l.mail.post(func(time.Time) { answer <- l.lookInto(namespace, name) }) {
		http.Error(w, "the scheduler is stopping", http.StatusServiceUnavailable)
		return
	}
	select {
	case <-r.Context().Done():
	case e := <-answer:
		if !e.found {
			http.Error(w, fmt.Sprintf("pod %s/%s does not wait for this scheduler: it has a node, is not there, or is another scheduler's", namespace, name), http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, e.text())
	}
}

func (l *loop) lookInto(namespace, name string) (e explanation) {
	e.waiting, e.found = l.queue.Waiting(namespace, name)
	if !e.found {
		return e
	}
	e.nodes = l.cluster.View.Known
	// The pod itself belongs to the queue; what is asked here must not change what is kept about it.
	pod := framework.NewPod(e.waiting.Pod.Pod, l.cluster.Columns)
	of := l.cycles[l.queue.Profile(pod.Pod).Scheduler]
	e.best, e.misses = of.Totals(pod), of.Misses(pod, nearest)
	return e
}

func (e *explanation) text() string {
	var b strings.Builder
	w := &e.waiting
	fmt.Fprintf(&b, "pod %s/%s: %s since %s, tried %d times\n", w.Namespace, w.Name, w.Where, w.Since.UTC().Format(time.RFC3339), w.Attempts)
	if w.Gate != nil {
		fmt.Fprintf(&b, "gated: %s\n", w.Gate.Reason)
	}
	if len(w.Rejected) > 0 {
		fmt.Fprintf(&b, "refused by: %s; tried again when something happens that may help, or at %s\n", strings.Join(w.Rejected, ", "), w.Wakes.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(&b, "%d of %d nodes will do now\n", len(e.best), e.nodes)
	if len(e.misses) > 0 {
		fmt.Fprintln(&b, "nodes that come nearest:")
	}
	for _, m := range e.misses {
		fmt.Fprintf(&b, "  %s\n", m.Node)
		for _, reason := range m.Reasons {
			fmt.Fprintf(&b, "    %s\n", reason)
		}
	}
	return b.String()
}
