package feed

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json"

	"millrace/internal/retry"
	"millrace/internal/rpcapi"
)

// refusals is how many nodes in a row may refuse a subscription before its clients are told.
const refusals = 3

// relay passes on what one node after the other says.
func (f *Feed) relay(ctx context.Context, g *group) {
	p := newPicker(f.cfg(), push)
	w := &wire{feed: f, group: g, picker: p, seen: newSeen(f.cfg().Dedupe)}
	for fails, refused := 0, 0; ctx.Err() == nil; fails++ {
		src, _, ok := p.best(f.ports.Nodes.Nodes(), time.Now())
		if !ok {
			retry.Pause(ctx, f.cfg().Watch)
			continue
		}
		began := time.Now()
		err := w.run(ctx, src)
		if ctx.Err() != nil {
			return
		}
		f.metrics.resumed.Inc()
		f.log.LogAttrs(ctx, slog.LevelInfo, "subscription at a node ended",
			slog.String("node", src.node.Label), slog.String("kind", g.spec.kind.String()), slog.Any("error", err))
		if !errors.Is(err, errBetter) {
			p.failed(src, time.Now())
		}
		if refused++; !errors.Is(err, errRefused) {
			refused = 0
		}
		if refused >= refusals {
			g.end(rpcapi.ErrSubscriptionUnsupported)
			refused = 0
		}
		if time.Since(began) > f.cfg().BackoffMax {
			fails = 0
		}
		if fails > 0 {
			retry.Pause(ctx, retry.Backoff(fails-1, f.cfg().BackoffMin, f.cfg().BackoffMax))
		}
	}
}

// wire is one passed-on subscription.
type wire struct {
	feed   *Feed
	group  *group
	picker *picker
	seen   *seen
	last   string // of kindSyncing: what clients know
}

// run passes on results of one source until it fails or should be left.
func (w *wire) run(ctx context.Context, src source) error {
	f := w.feed
	link, release, err := f.links.use(ctx, src.node)
	if err != nil {
		return err
	}
	defer release()
	within, cancel := context.WithTimeout(ctx, f.cfg().CallTimeout)
	defer cancel()
	up, err := link.subscribe(within, w.group.spec.params, f.cfg().QueueResults)
	if err != nil {
		return err
	}
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		up.close(last)
	}()
	w.picker.worked(src)
	watch := time.NewTicker(f.cfg().Watch)
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case raw, ok := <-up.results:
			if !ok {
				return up.ended()
			}
			if w.fresh(raw) {
				w.group.fan(raw, always)
			}
		case <-watch.C:
			if err := w.picker.leave(src, f.ports.Nodes.Nodes(), time.Now()); err != nil {
				return err
			}
		}
	}
}

// fresh says whether clients don't know the result yet.
func (w *wire) fresh(raw []byte) bool {
	if w.group.spec.kind == kindSyncing {
		known := w.last == string(raw)
		w.last = string(raw)
		return !known
	}
	if len(raw) > 0 && raw[0] == '{' {
		var tx struct {
			Hash string `json:"hash"`
		}
		if json.Unmarshal(raw, &tx) != nil || tx.Hash == "" {
			return true
		}
		return w.seen.first(tx.Hash)
	}
	return w.seen.first(string(raw))
}
