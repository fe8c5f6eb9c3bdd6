package dispatch

import (
	"context"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

// desk is a dispatcher in a bubble and the calls that were made to it.
type desk struct {
	t require.TestingT
	*Dispatcher
	reg *prometheus.Registry
	// ended are the calls in the order in which their outcome was known.
	ended []*caller
}

// caller is one call of Acquire.
type caller struct {
	name   string
	want   Want
	cancel context.CancelCauseFunc
	done   bool
	place  Place
	err    error
	at     time.Time
}

func newDesk(t require.TestingT, cfg Config, members ...Member) *desk {
	reg := prometheus.NewRegistry()
	d, err := New(cfg, reg)
	require.NoError(t, err)
	d.Set(members)
	return &desk{t: t, Dispatcher: d, reg: reg}
}

// call starts an Acquire and lets it come to rest.
func (d *desk) call(name string, w Want) *caller {
	if w.Received.IsZero() {
		w.Received = time.Now()
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	c := &caller{name: name, want: w, cancel: cancel}
	go func() {
		p, err := d.Acquire(ctx, &w)
		d.mu.Lock() // the bubble is one process, but callers that are woken together run together
		c.place, c.err, c.at, c.done = p, err, time.Now(), true
		d.ended = append(d.ended, c)
		d.mu.Unlock()
	}()
	synctest.Wait()
	return c
}

// calls starts a call for each word, whose first letter is its class.
func (d *desk) calls(words ...string) {
	for _, word := range words {
		d.call(word, Want{Class: map[byte]rpcapi.Class{'f': rpcapi.FastTrack, 'h': rpcapi.High, 'l': rpcapi.Low}[word[0]]})
	}
}

// next is the first call that has a place and was not looked at yet; its place is released.
func (d *desk) next() string {
	require.NotEmpty(d.t, d.ended, "nobody was served")
	c := d.ended[0]
	d.ended = d.ended[1:]
	require.NoError(d.t, c.err, c.name)
	d.release(c)
	return c.name
}

func (d *desk) release(c *caller) {
	c.cancel(nil)
	d.Release(c.place)
	synctest.Wait()
}

// rest is the order in which the calls are served, one at a time.
func (d *desk) rest() []string {
	var names []string
	for len(d.ended) > 0 {
		names = append(names, d.next())
	}
	return names
}

func (d *desk) busy() map[rpcapi.Tag]int {
	m := map[rpcapi.Tag]int{}
	for _, l := range d.Load() {
		m[l.Tag] = l.Busy
	}
	return m
}

// hold takes places of a node until it has no free one.
func (d *desk) hold(tag rpcapi.Tag, n int) []*caller {
	var held []*caller
	for range n {
		c := d.call("held", Want{Class: rpcapi.Low, Node: tag})
		require.True(d.t, c.done)
		require.NoError(d.t, c.err)
		held = append(held, c)
	}
	d.ended = d.ended[:0]
	return held
}
