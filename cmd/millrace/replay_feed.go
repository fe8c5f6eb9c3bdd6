package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"millrace/egress"
	"millrace/egress/builder"
	"millrace/egress/post"
	"millrace/egress/replay"
)

// feed sends to a builder the way the delivery does, with the delivery's own sender.
type feed struct{ builder *post.Poster }

// wallClock is the time of this machine: a replay has no bus of its own.
type wallClock struct{}

// Now is the present.
func (wallClock) Now() time.Time { return time.Now() }

func newFeed(url string, cfg *replay.Config) (sendCloser, error) {
	key := "" // random
	if cfg.Key != nil {
		key = hex.EncodeToString(crypto.FromECDSA(cfg.Key))
	}
	signer, err := post.NewSigner(key)
	if err != nil {
		return nil, usage(err)
	}
	t := builder.Config{Builder: builder.Short{URL: url}}.Targets()[0]
	b, err := builder.New(t, nil, signer, wallClock{}, cfg.Connections)
	if err != nil {
		return nil, usage(err)
	}
	return feed{b}, nil
}

// Close lets go of the connections.
func (f feed) Close() { f.builder.CloseIdle() }

// Send makes one request; from the second on it is marked as a possible repeat.
func (f feed) Send(ctx context.Context, r replay.Request) replay.Answer {
	res := f.builder.Send(ctx, egress.Attempt{Order: r.Order, Number: r.Attempt})
	a := replay.Answer{Reason: cmp.Or(res.Text, "no answer"), RetryAfter: min(res.RetryAfter, maxFeedPause)}
	switch res.Verdict {
	case egress.Accepted:
		a.Outcome, a.Reason = replay.Accepted, ""
	case egress.Rejected:
		a.Outcome = replay.Refused
	case egress.Busy:
		a.Outcome = replay.Busy
	case egress.Unreachable:
		a.Outcome, a.Reason = replay.Lost, "no connection"
	case egress.Lost:
		a.Outcome, a.Reason = replay.Lost, "no answer"
	}
	return a
}

// maxFeedPause bounds what a builder may ask for: a replay does not wait for an hour.
const maxFeedPause = 5 * time.Second
