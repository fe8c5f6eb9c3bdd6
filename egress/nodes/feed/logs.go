package feed

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/retry"
	"millrace/internal/rpcapi"
)

// derive turns the chain's changes into the logs of one filter.
func (f *Feed) derive(ctx context.Context, g *group) {
	b := newBook(f.cfg().KeepBytes)
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-g.steps:
			if err := f.deriveStep(ctx, g, b, s); err != nil && ctx.Err() == nil {
				f.log.LogAttrs(ctx, slog.LevelError, "subscriptions to logs ended", slog.Any("error", err))
				g.end(rpcapi.ErrSubscriptionGap)
			}
		}
	}
}

func (f *Feed) deriveStep(ctx context.Context, g *group, b *book, s step) error {
	for _, h := range s.dropped {
		logs, err := b.take(h.hash)
		if err != nil {
			return fmt.Errorf("block %d is dropped: %w", h.number, err)
		}
		for _, l := range slices.Backward(logs) {
			gone, err := removed(l)
			if err != nil {
				return err
			}
			g.fan(gone, s.sequence)
		}
	}
	for _, h := range s.added {
		switch {
		case !f.canonical(h): // a later step drops it, and nothing is to be taken back then
			continue
		case !g.spec.filter.mayMatch(h):
			f.metrics.skipped.Inc()
			continue
		}
		logs, err := f.logsOf(ctx, g.spec.filter, h)
		if err != nil {
			return fmt.Errorf("logs of block %d: %w", h.number, err)
		}
		for _, l := range logs {
			g.fan(l, s.sequence)
		}
		b.note(h.hash, logs)
	}
	return nil
}

// logsOf asks until some node knows the block, or it is not canonical any more.
func (f *Feed) logsOf(ctx context.Context, want *filter, h *header) ([]jsontext.Value, error) {
	params := `[{"blockHash":"` + h.hash.Hex() + `",` + want.query() + `}]`
	began := time.Now()
	for n := 0; ; n++ {
		f.metrics.queries.Inc()
		raw, err := f.ask(ctx, 0, rpcapi.Block{Kind: rpcapi.BlockNumber, Number: h.number}, "eth_getLogs", params)
		var logs []jsontext.Value
		if err == nil {
			if err = json.Unmarshal(raw, &logs); err == nil {
				return logs, nil
			}
		}
		switch {
		case !f.canonical(h):
			return nil, nil
		case time.Since(began) > f.cfg().Patience, !retry.Pause(ctx, retry.Backoff(n, f.cfg().BackoffMin, f.cfg().BackoffMax)):
			return nil, err
		}
	}
}

// removed is a log that says it is not canonical any more.
func removed(l []byte) ([]byte, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(l))
	if t, err := dec.ReadToken(); err != nil || t.Kind() != jsontext.KindBeginObject {
		return nil, fmt.Errorf("log: %w", errMalformed)
	}
	out := append(make([]byte, 0, len(l)+16), '{')
	for dec.PeekKind() == jsontext.KindString {
		name, err := dec.ReadValue()
		if err != nil {
			return nil, fmt.Errorf("log: %w: %w", errMalformed, err)
		}
		own := string(name) == `"removed"`
		if !own {
			out = append(append(out, name...), ':')
		}
		value, err := dec.ReadValue()
		if err != nil {
			return nil, fmt.Errorf("log: %w: %w", errMalformed, err)
		}
		if !own {
			out = append(append(out, value...), ',')
		}
	}
	if t, err := dec.ReadToken(); err != nil || t.Kind() != jsontext.KindEndObject {
		return nil, fmt.Errorf("log: %w", errMalformed)
	}
	return append(out, `"removed":true}`...), nil
}

// book keeps what was delivered of the last blocks: at most keepHeaders blocks and bytes of logs; when they are
// full the oldest block's logs are let go, and that they were there is still known. Its owner is one goroutine.
type book struct {
	bytes, used int
	order       []common.Hash
	kept        map[common.Hash][]jsontext.Value // nil: let go
}

func newBook(bytes int) *book {
	return &book{bytes: bytes, kept: make(map[common.Hash][]jsontext.Value)}
}

func sizeOf(logs []jsontext.Value) (n int) {
	for _, l := range logs {
		n += len(l)
	}
	return n
}

func (b *book) note(hash common.Hash, logs []jsontext.Value) {
	if len(logs) == 0 {
		return
	}
	b.order = append(b.order, hash)
	b.kept[hash] = logs
	b.used += sizeOf(logs)
	for i := 0; i < len(b.order) && b.used > b.bytes; i++ {
		b.used -= sizeOf(b.kept[b.order[i]])
		b.kept[b.order[i]] = nil
	}
	if len(b.order) > keepHeaders {
		b.used -= sizeOf(b.kept[b.order[0]])
		delete(b.kept, b.order[0])
		b.order = slices.Delete(b.order, 0, 1)
	}
}

// take removes a block; none of its logs is no error, but having let go of them is.
func (b *book) take(hash common.Hash) ([]jsontext.Value, error) {
	logs, ok := b.kept[hash]
	switch {
	case !ok:
		return nil, nil
	case logs == nil:
		return nil, rpcapi.ErrSubscriptionGap
	}
	b.used -= sizeOf(logs)
	delete(b.kept, hash)
	if i := slices.Index(b.order, hash); i >= 0 {
		b.order = slices.Delete(b.order, i, i+1)
	}
	return logs, nil
}
