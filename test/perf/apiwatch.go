package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// stamp precedes the time at which an object was sent, 19 digits of Unix nanoseconds.
const (
	stamp       = "bench-sent-"
	stampDigits = 19
)

// fanOut opens watches on the ConfigMaps and creates n of them, rate a second (0: as eight writers can), and measures
// from the start of each create to the arrival at each watcher.
func (r *apiRun) fanOut(key string, watchers, n int, rate float64) error {
	list, err := r.clients[0].CoreV1().ConfigMaps(apiNamespace).List(r.ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	var took latencies
	var opened, done sync.WaitGroup
	opened.Add(watchers)
	errs := make(chan error, watchers)
	for w := range watchers {
		done.Go(func() {
			body, err := r.clients[w%apiConns].CoreV1().RESTClient().Get().Namespace(apiNamespace).Resource("configmaps").
				Param("watch", "1").Param("resourceVersion", list.ResourceVersion).
				SetHeader("Accept", "application/vnd.kubernetes.protobuf;stream=watch").Stream(ctx)
			opened.Done()
			if err == nil {
				err = arrivals(body, n, &took)
			}
			if err != nil {
				errs <- err
			}
		})
	}
	opened.Wait()
	before, _ := r.side.used()
	begin := time.Now()
	if err := r.stampedCreates(n, rate, begin); err != nil {
		return err
	}
	done.Wait()
	seconds := time.Since(begin).Seconds()
	after, _ := r.side.used()
	select {
	case err := <-errs:
		return err
	default:
	}
	if rate > 0 {
		r.out.add(key+"p99", r.side, took.percentile(99))
		r.out.add(key+"cpu", r.side, after-before)
	} else {
		r.out.add(key, r.side, float64(n*watchers)/seconds)
	}
	cancel()
	return r.clients[0].CoreV1().ConfigMaps(apiNamespace).DeleteCollection(r.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app=watched"})
}

func (r *apiRun) stampedCreates(n int, rate float64, begin time.Time) error {
	return r.parallel(n, 8, func(api *kubernetes.Clientset, i int) error {
		if rate > 0 {
			settle(r.ctx, time.Until(begin.Add(time.Duration(float64(i)/rate*float64(time.Second)))))
		}
		object := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("watched-%06d", i), Labels: map[string]string{"app": "watched"}},
			Data: map[string]string{"payload": string(bytes.Repeat([]byte("w"), payload)),
				"stamp": stamp + strconv.FormatInt(time.Now().UnixNano(), 10)},
		}
		_, err := api.CoreV1().ConfigMaps(apiNamespace).Create(r.ctx, object, metav1.CreateOptions{})
		return err
	})
}

// arrivals reads n stamped frames of a protobuf watch.
func arrivals(body io.ReadCloser, n int, took *latencies) error {
	defer body.Close() //nolint:errcheck // it was read
	mine := make([]time.Duration, 0, n)
	frames := bufio.NewReaderSize(body, 64<<10)
	for len(mine) < n {
		head, err := frames.Peek(4)
		if err != nil {
			return fmt.Errorf("watch ended after %d events: %w", len(mine), err)
		}
		length := 4 + int(binary.BigEndian.Uint32(head))
		frame, err := frames.Peek(length)
		if err != nil {
			return fmt.Errorf("watch ended after %d events: %w", len(mine), err)
		}
		if _, rest, found := bytes.Cut(frame, []byte(stamp)); found {
			sent, err := strconv.ParseInt(string(rest[:stampDigits]), 10, 64)
			if err != nil {
				return err
			}
			mine = append(mine, time.Since(time.Unix(0, sent)))
		}
		frames.Discard(length) //nolint:errcheck // it was peeked
	}
	took.mu.Lock()
	defer took.mu.Unlock()
	took.values = append(took.values, mine...)
	return nil
}
