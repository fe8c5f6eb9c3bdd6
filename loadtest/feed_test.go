package loadtest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// drain runs the feed and takes everything.
func drain(t *testing.T, f *Feed) []uint64 {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f.Run(t.Context()) }()
	var seqs []uint64
	for {
		o, err := f.Next(t.Context())
		if err != nil {
			require.ErrorIs(t, err, ErrExhausted)
			break
		}
		seqs = append(seqs, o.Tag.Seq)
	}
	require.NoError(t, <-done)
	return seqs
}

func TestFeedHandsOutTheCorpusInSequence(t *testing.T) {
	c := newTestCorpus(t, CorpusConfig{Seed: 1, Mix: Only(ShapeCancel)})
	var want []uint64
	for n := range uint64(501) {
		want = append(want, 100+n)
	}
	for _, preload := range []uint64{0, 1, 333, 9999} {
		f := NewFeed(c, 100, 501)
		require.NoError(t, f.Preload(t.Context(), preload))
		require.Equal(t, want, drain(t, f), preload)
	}
}

func TestFeedMakesNoMoreThanItsBoundAhead(t *testing.T) {
	f := NewFeed(newTestCorpus(t, CorpusConfig{Seed: 1, Mix: Only(ShapeCancel)}), 0, 0)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	require.Eventually(t, func() bool { return len(f.batches) == feedDepth }, timeout, tick)
	stop()
	require.NoError(t, <-done)
}

func TestFeedStopsWaitingWhenTheContextEnds(t *testing.T) {
	f := NewFeed(newTestCorpus(t, CorpusConfig{Seed: 1}), 0, 0)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	_, err := f.Next(ctx) // nobody runs it
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, f.Preload(ctx, 10), context.Canceled)
}
