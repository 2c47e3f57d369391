package robustness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	// Namespace is where the clients work.
	Namespace = "robustness"

	requestTime = 3 * time.Second
	idleTime    = 5 * time.Second // without an event: somebody writes several times a second
	registers   = 3               // objects that clients write to
	writers     = 2               // for each of them
	watchers    = 3
	pace        = 150 * time.Millisecond // between two requests of one client
	field       = "value"                // of a ConfigMap
)

// Load is clients at work. Each has connections of its own, and none tries anything twice: every request is recorded.
type Load struct {
	History *History

	config  *rest.Config
	stop    context.CancelFunc
	wg      sync.WaitGroup // clients
	watched sync.WaitGroup
	end     context.CancelFunc // of the watchers
	watches []*watcher
}

// StartLoad starts the clients against an API server.
func StartLoad(ctx context.Context, config *rest.Config) (*Load, error) {
	l := &Load{History: NewHistory(), config: config}
	api, err := l.client()
	if err != nil {
		return nil, err
	}
	_, err = api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("make the clients' namespace: %w", err)
	}
	watching, end := context.WithCancel(ctx)
	l.end = end
	for range watchers {
		own, err := l.client()
		if err != nil {
			return nil, err
		}
		w := &watcher{api: own}
		if err := w.list(ctx); err != nil {
			return nil, fmt.Errorf("first list of a watcher: %w", err)
		}
		l.watches = append(l.watches, w)
		l.watched.Go(func() { w.run(watching) })
	}
	working, stop := context.WithCancel(ctx)
	l.stop = stop
	for r := range registers {
		key := "register-" + strconv.Itoa(r)
		if err := l.create(ctx, api, key, key+" 0"); err != nil {
			return nil, fmt.Errorf("make %s: %w", key, err)
		}
		for w := range writers {
			if err := l.add(working, func(ctx context.Context, api kubernetes.Interface, n int) {
				l.replace(ctx, api, key, fmt.Sprint(key, " ", w, ".", n))
			}); err != nil {
				return nil, err
			}
		}
	}
	if err := l.add(working, l.churn); err != nil {
		return nil, err
	}
	return l, l.add(working, l.pods)
}

// client has connections of its own, by HTTP/1.1: a request that gets no answer takes its connection with it.
func (l *Load) client() (kubernetes.Interface, error) {
	c := rest.CopyConfig(l.config)
	c.QPS = -1
	c.NextProtos = []string{"http/1.1"}
	c.Dial = (&net.Dialer{Timeout: requestTime}).DialContext
	return kubernetes.NewForConfig(c)
}

// add starts a client that does its work again and again.
func (l *Load) add(ctx context.Context, work func(ctx context.Context, api kubernetes.Interface, n int)) error {
	api, err := l.client()
	if err != nil {
		return err
	}
	l.wg.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			// A request that has begun is waited for.
			work(context.WithoutCancel(ctx), api, n)
		}
	})
	return nil
}

// outcome says what a client may conclude from an error.
func outcome(err error) Outcome {
	switch {
	case err == nil:
		return Done
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err), apierrors.IsTooManyRequests(err),
		apierrors.IsForbidden(err), apierrors.IsUnauthorized(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return Refused
	}
	return Unknown
}

// record runs one request and notes what came of it.
func (l *Load) record(ctx context.Context, op Op, do func(context.Context) (*corev1.ConfigMap, error)) (*corev1.ConfigMap, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	op.Start = l.History.Now()
	got, err := do(ctx)
	op.End = l.History.Now()
	if op.Outcome = outcome(err); err != nil {
		op.Error = err.Error()
	} else if got != nil {
		op.Version, op.Value = version(got), got.Data[field]
	}
	l.History.Add(op)
	return got, err
}

func version(o metav1.Object) int64 {
	n, _ := strconv.ParseInt(o.GetResourceVersion(), 10, 64) // a number, or the checkers complain of 0
	return n
}

func (l *Load) create(ctx context.Context, api kubernetes.Interface, key, value string) error {
	_, err := l.record(ctx, Op{Key: key, Write: true, Value: value}, func(ctx context.Context) (*corev1.ConfigMap, error) {
		return api.CoreV1().ConfigMaps(Namespace).Create(ctx, configMap(key, value), metav1.CreateOptions{})
	})
	return err
}

func configMap(key, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: key}, Data: map[string]string{field: value}}
}

// replace reads an object and writes it, if nobody else was faster.
func (l *Load) replace(ctx context.Context, api kubernetes.Interface, key, value string) {
	got, err := l.record(ctx, Op{Key: key}, func(ctx context.Context) (*corev1.ConfigMap, error) {
		return api.CoreV1().ConfigMaps(Namespace).Get(ctx, key, metav1.GetOptions{})
	})
	if err != nil {
		return
	}
	wanted := got.DeepCopy()
	wanted.Data = map[string]string{field: value}
	_, _ = l.record(ctx, Op{Key: key, Write: true, Value: value, Base: version(got)}, func(ctx context.Context) (*corev1.ConfigMap, error) {
		return api.CoreV1().ConfigMaps(Namespace).Update(ctx, wanted, metav1.UpdateOptions{})
	})
}

// churn makes objects, and removes them a little later.
func (l *Load) churn(ctx context.Context, api kubernetes.Interface, n int) {
	_ = l.create(ctx, api, fmt.Sprint("churn-", n), fmt.Sprint("churn ", n)) // recorded
	if old := fmt.Sprint("churn-", n-10); n > 10 {
		_, _ = l.record(ctx, Op{Key: old, Write: true, Delete: true}, func(ctx context.Context) (*corev1.ConfigMap, error) {
			return nil, api.CoreV1().ConfigMaps(Namespace).Delete(ctx, old, metav1.DeleteOptions{})
		})
	}
}

// RunsFile is where pods that must run once write that they have been started.
const RunsFile = "/var/log/hardway-runs/started"

// pods makes a pod now and then that must be started once, and removes old ones.
func (l *Load) pods(ctx context.Context, api kubernetes.Interface, n int) {
	const every = 20
	if n%every != 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	name := func(n int) string { return fmt.Sprint("once-", n/every) }
	create := corev1.HostPathDirectoryOrCreate
	second := int64(1)
	_, _ = api.CoreV1().Pods(Namespace).Create(ctx, &corev1.Pod{ //nolint:errcheck // a pod more or less
		ObjectMeta: metav1.ObjectMeta{Name: name(n)},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: &second,
			Containers: []corev1.Container{{
				Name: "once", Image: "busybox", ImagePullPolicy: corev1.PullIfNotPresent,
				Command:      []string{"sh", "-c", "echo $UID_OF_POD >>/runs/started; sleep 2"},
				Env:          []corev1.EnvVar{{Name: "UID_OF_POD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.uid"}}}},
				VolumeMounts: []corev1.VolumeMount{{Name: "runs", MountPath: "/runs"}},
			}},
			Volumes: []corev1.Volume{{Name: "runs", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/log/hardway-runs", Type: &create}}}},
		},
	}, metav1.CreateOptions{})
	if n > 10*every {
		_ = api.CoreV1().Pods(Namespace).Delete(ctx, name(n-10*every), metav1.DeleteOptions{}) // as above
	}
}

// Finish stops the clients, lets the watchers hear the last of them, and returns what these were told, with the state at
// the end.
func (l *Load) Finish(ctx context.Context) (watches []Watch, final map[string]State, err error) {
	l.stop()
	l.wg.Wait()
	api, err := l.client()
	if err != nil {
		return nil, nil, err
	}
	last, err := api.CoreV1().ConfigMaps(Namespace).Create(ctx, configMap("last", "last"), metav1.CreateOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("write the last object: %w", err)
	}
	for i, w := range l.watches {
		if err := w.reached(ctx, version(last)); err != nil {
			return nil, nil, fmt.Errorf("watcher %d: %w", i, err)
		}
	}
	l.end()
	l.watched.Wait()
	for _, w := range l.watches {
		w.told.Until = version(last)
		watches = append(watches, w.told)
	}
	list, err := api.CoreV1().ConfigMaps(Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("list what is left: %w", err)
	}
	final = map[string]State{}
	for _, o := range list.Items {
		final[o.Name] = State{Version: version(&o), Value: o.Data[field]}
	}
	return watches, final, nil
}

// watcher follows all ConfigMaps of the namespace.
type watcher struct {
	api kubernetes.Interface

	mu   sync.Mutex
	told Watch // guarded by mu
	at   int64 // the newest version it knows of; guarded by mu
}

// list begins, or begins anew.
func (w *watcher) list(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	got, err := w.api.CoreV1().ConfigMaps(Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(got.ResourceVersion, 10, 64)
	if err != nil {
		return fmt.Errorf("version of a list: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at == 0 {
		w.told.From = n
	} else {
		w.told.Gaps = append(w.told.Gaps, Gap{w.at, n})
	}
	w.at = max(w.at, n)
	return nil
}

func (w *watcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := w.follow(ctx); apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			_ = w.list(ctx) // or the next watch says again that it is too late
		}
		select {
		case <-ctx.Done():
		case <-time.After(pace):
		}
		w.mu.Lock()
		w.told.Breaks++
		w.mu.Unlock()
	}
}

// follow watches until the connection ends, or is silent for too long.
func (w *watcher) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(idleTime, func() { cancel(errors.New("silence")) })
	defer silent.Stop()
	w.mu.Lock()
	from := strconv.FormatInt(w.at, 10)
	w.mu.Unlock()
	events, err := w.api.CoreV1().ConfigMaps(Namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: from, AllowWatchBookmarks: true})
	if err != nil {
		return err
	}
	defer events.Stop()
	for e := range events.ResultChan() {
		silent.Reset(idleTime)
		if e.Type == watch.Error {
			return apierrors.FromObject(e.Object)
		}
		o, ok := e.Object.(*corev1.ConfigMap)
		if !ok {
			return fmt.Errorf("a %T was sent", e.Object)
		}
		w.mu.Lock()
		if e.Type != watch.Bookmark {
			w.told.Events = append(w.told.Events, Event{Key: o.Name, Version: version(o), Value: o.Data[field], Deleted: e.Type == watch.Deleted})
		}
		w.at = max(w.at, version(o))
		w.mu.Unlock()
	}
	return nil
}

// reached waits until the watcher knows of a version.
func (w *watcher) reached(ctx context.Context, version int64) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		w.mu.Lock()
		at := w.at
		w.mu.Unlock()
		if at >= version {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("was told up to version %d, not %d: %w", at, version, ctx.Err())
		case <-tick.C:
		}
	}
}
