package dispatch

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

func benchDispatcher(b *testing.B, cfg Config, members ...Member) *Dispatcher {
	b.Helper()
	b.ReportAllocs()
	d, err := New(cfg, prometheus.NewRegistry())
	require.NoError(b, err)
	d.Set(members)
	return d
}

func manyNodes(n, places int) []Member {
	members := make([]Member, n)
	for i := range members {
		members[i] = Member{Tag: rpcapi.Tag(i + 1), Places: places}
	}
	return members
}

func BenchmarkAcquireRelease(b *testing.B) {
	for _, c := range []struct {
		name  string
		nodes int
		cfg   Config
		want  Want
	}{
		{"one node", 1, Config{}, Want{}},
		{"eight nodes", 8, Config{}, Want{}},
		{"eight nodes, avoiding one", 8, Config{}, Want{Avoid: []rpcapi.Tag{1}}},
		{"eight nodes, by client", 8, Config{Balance: ByClient}, Want{Client: 7}},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := benchDispatcher(b, c.cfg, manyNodes(c.nodes, 8)...)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			received := time.Now()
			before := cpuTime(b)
			for b.Loop() {
				w := c.want
				w.Class, w.Received = rpcapi.High, received
				if time.Since(received) > time.Second {
					received = time.Now()
				}
				p, err := d.Acquire(ctx, &w)
				if err != nil {
					b.Fatal(err)
				}
				d.Release(p)
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/call")
		})
	}
}

// BenchmarkContended has 64 goroutines share eight places: nearly every call waits and is woken.
func BenchmarkContended(b *testing.B) {
	for _, nodes := range []int{1, 8} {
		b.Run(fmt.Sprintf("%d nodes", nodes), func(b *testing.B) {
			d := benchDispatcher(b, Config{FastPerHigh: 2}, manyNodes(nodes, 8/nodes)...)
			var wg sync.WaitGroup
			b.ResetTimer()
			before := cpuTime(b)
			for g := range 64 {
				wg.Go(func() {
					w := Want{Class: rpcapi.Class(g%rpcapi.Classes + 1)}
					for range b.N / 64 {
						w.Received = time.Now()
						p, err := d.Acquire(b.Context(), &w)
						if err != nil {
							b.Error(err)
							return
						}
						d.Release(p)
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/call")
		})
	}
}

// BenchmarkSkip releases places of a node that may not serve the calls at the head of a long queue.
func BenchmarkSkip(b *testing.B) {
	d := benchDispatcher(b, Config{}, Member{Tag: 1, Places: 1}, Member{Tag: 2, Places: 1})
	held, err := d.Acquire(b.Context(), &Want{Node: 1})
	require.NoError(b, err)
	for range 10_000 {
		push(d, Want{Class: rpcapi.High, Node: 1})
	}
	for b.Loop() {
		p, err := d.Acquire(b.Context(), &Want{Class: rpcapi.High, Node: 2})
		if err != nil {
			b.Fatal(err)
		}
		d.Release(p)
	}
	d.Release(held)
}

// push puts a call into its queue for which no goroutine waits.
func push(d *Dispatcher, w Want) {
	_, wt, err := d.enter(context.Background(), &w)
	if err != nil || wt == nil {
		panic("it does not wait")
	}
}

// BenchmarkQueue is prio-load-balancer's benchmark of its queue: a task is put in so many times, and readers take
// the tasks out until none is left. A reader is a place. As there, tasks are made before, and no goroutine waits
// for one; whole calls also have a clock, a pool and a channel.
func BenchmarkQueue(b *testing.B) {
	for _, whole := range []string{"queue", "whole calls"} {
		for _, tasks := range []int{10_000, 100_000} {
			for _, readers := range []int{1, 5} {
				b.Run(fmt.Sprintf("%s, %d tasks, %d readers", whole, tasks, readers), func(b *testing.B) {
					d := benchDispatcher(b, Config{FastPerHigh: 2, Timeout: time.Hour}, Member{Tag: 1, Places: readers})
					t := &tasksOf{Dispatcher: d, cond: sync.NewCond(&d.mu), whole: whole != "queue"}
					for range tasks {
						t.made = append(t.made, &waiter{want: Want{Class: rpcapi.Low}, deadline: time.Hour})
					}
					before := cpuTime(b)
					for b.Loop() {
						t.readAll(b, readers)
					}
					b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N*tasks), "cpu-ns/task")
				})
			}
		}
	}
}

// cpuTime is what the process has used: on a shared machine it says more than time does.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// tasksOf are the tasks in a dispatcher's queue; readers wait for them as theirs do.
type tasksOf struct {
	*Dispatcher
	cond   *sync.Cond
	whole  bool
	made   []*waiter
	pushed bool
}

func (t *tasksOf) readAll(b *testing.B, readers int) {
	b.Helper()
	var wg sync.WaitGroup
	t.pushed = false
	for range readers {
		p, err := t.Acquire(b.Context(), &Want{Class: rpcapi.Low})
		require.NoError(b, err)
		wg.Go(func() { t.read(p) })
	}
	w := Want{Class: rpcapi.Low, Received: t.start}
	for _, made := range t.made {
		if t.whole {
			push(t.Dispatcher, w)
		} else {
			t.mu.Lock()
			t.enqueue(made, 0)
			t.mu.Unlock()
		}
		t.cond.Signal()
	}
	t.mu.Lock()
	t.pushed = true
	t.cond.Broadcast()
	t.mu.Unlock()
	wg.Wait()
	require.Zero(b, t.Waiting(rpcapi.Low))
}

// read passes a place on from task to task.
func (t *tasksOf) read(p Place) {
	for {
		t.mu.Lock()
		for t.waiting == 0 && !t.pushed {
			t.cond.Wait()
		}
		p.node.busy--
		t.taken--
		w := t.serve(p.node)
		t.mu.Unlock()
		switch {
		case w == nil:
			return
		case t.whole:
			w.ready <- struct{}{}
			<-w.ready
			t.waiters.Put(w)
		}
	}
}

// BenchmarkCallers is the same with a goroutine for each call, as in the gateway.
func BenchmarkCallers(b *testing.B) {
	const tasks = 10_000
	for _, places := range []int{1, 5} {
		b.Run(fmt.Sprintf("%d calls, %d places", tasks, places), func(b *testing.B) {
			d := benchDispatcher(b, Config{}, Member{Tag: 1, Places: places})
			for b.Loop() {
				var wg sync.WaitGroup
				for range tasks {
					wg.Go(func() {
						p, err := d.Acquire(b.Context(), &Want{Class: rpcapi.Low})
						if err != nil {
							b.Error(err)
						}
						d.Release(p)
					})
				}
				wg.Wait()
			}
		})
	}
}
