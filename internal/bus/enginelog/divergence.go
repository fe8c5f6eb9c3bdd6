package enginelog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/retry"
	"millrace/subjects"
)

const (
	// divergenceTries is how often an event is published until it is given up, divergenceMost its size
	// at most, bytes.
	divergenceTries = 10
	divergenceMost  = chunkMost
)

// ErrTooLarge is returned for an event that exceeds a message: its raw answers must be cut.
var ErrTooLarge = errors.New("divergence exceeds a message")

// Divergences keep what secondaries answered otherwise than the primary. Events are opaque here.
type Divergences struct {
	bus Bus
	log *slog.Logger
}

// NewDivergences returns the Divergences on b.
func NewDivergences(b Bus, log *slog.Logger) *Divergences { return &Divergences{bus: b, log: log} }

// Publish stores an event about a secondary. id names it: the same one again within two minutes is not
// stored twice. It tries for some seconds, or until ctx ends.
func (d *Divergences) Publish(ctx context.Context, secondary, id string, event []byte) error {
	if !subjects.ValidName(secondary) {
		return fmt.Errorf("divergence of %.40q: %w", secondary, ErrName)
	}
	if len(event) > divergenceMost {
		return fmt.Errorf("divergence of %s, %d bytes: %w", secondary, len(event), ErrTooLarge)
	}
	js, err := d.bus.EngineState()
	if err != nil {
		return fmt.Errorf("divergence of %s: %w", secondary, err)
	}
	msg := &nats.Msg{Subject: subjects.Divergence(secondary), Data: event, Header: nats.Header{}}
	if id != "" {
		msg.Header[jetstream.MsgIDHeader] = []string{secondary + ":" + id}
	}
	for n := 0; ; n++ {
		_, err = publishOnce(ctx, js, msg)
		if err == nil {
			return nil
		}
		if n+1 >= divergenceTries || !retry.Pause(ctx, retry.Backoff(n, retryLeast, retryMost)) {
			return fmt.Errorf("divergence of %s: %w", secondary, err)
		}
	}
}

func publishOnce(ctx context.Context, js jetstream.JetStream, msg *nats.Msg) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	return js.PublishMsg(ctx, msg)
}

// Divergence is an event as the stream holds it.
type Divergence struct {
	Sequence  uint64
	Stored    time.Time
	Secondary string
	Event     []byte
}

// Read calls f with every event that was stored at or after since, up to now, oldest first. Its error ends
// the reading and is returned as it is. ErrNoLog when none are kept.
func (d *Divergences) Read(ctx context.Context, since time.Time, f func(Divergence) error) error {
	nc, err := d.bus.EngineReplay()
	if err != nil {
		return fmt.Errorf("read divergences: %w", err)
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(ackTimeout))
	if err != nil {
		return fmt.Errorf("read divergences: %w", err)
	}
	s, err := js.Stream(ctx, subjects.StreamDivergence)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return ErrNoLog
	}
	if err != nil {
		return fmt.Errorf("read divergences: %w", err)
	}
	var ended error
	last := s.CachedInfo().State.LastSeq
	next := uint64(1)
	for n := range divergenceTries {
		err = scan(ctx, js, s, scanRange{from: next, until: last, bodies: withBodies}, func(m jetstream.Msg, seq uint64) error {
			next = seq + 1
			meta, err := m.Metadata()
			if err != nil || meta.Timestamp.Before(since) {
				return err
			}
			ended = f(Divergence{
				Sequence: seq, Stored: meta.Timestamp, Event: m.Data(),
				Secondary: strings.TrimPrefix(m.Subject(), subjects.Divergence("")),
			})
			return ended
		})
		if ended != nil || err == nil {
			return ended
		}
		retry.Pause(ctx, retry.Backoff(n, retryLeast, retryMost))
	}
	return fmt.Errorf("read divergences: %w", err)
}
