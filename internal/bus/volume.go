package bus

import (
	"context"
	"fmt"
	"log/slog"

	"millrace/internal/order"
	"millrace/subjects"
)

// fitVolume keeps the streams' caps within the volume: a full disk freezes a stream for good, a
// full stream closes the door.
func (b *Bus) fitVolume(ctx context.Context) error {
	_, total, err := b.server.Volume()
	if err != nil {
		return fmt.Errorf("measure volume of %s: %w", b.cfg.StoreDir, err)
	}
	limit := int64(storeShare * float64(total))
	if b.cfg.MaxStore > 0 {
		limit = min(limit, b.cfg.MaxStore)
	}
	var factor float64
	if b.topo, factor = fit(b.topo, limit); factor < 1 {
		b.log.LogAttrs(ctx, slog.LevelWarn, "streams are smaller than configured, to fit the volume",
			slog.Float64("factor", factor), slog.Int64("limit_bytes", limit))
	}
	return nil
}

// storeShare is the part of the volume that all streams together may claim.
const storeShare = 0.8

// fit scales the declared caps down, all by the same factor, so that their sum stays within limit
// bytes; factor is one when it does anyway.
func fit(o subjects.Options, limit int64) (fitted subjects.Options, factor float64) {
	classes := int64(len(order.Priorities))
	sum := classes*(o.InMaxBytes+o.OKMaxBytes) + o.RecordMaxBytes + o.LedgerMaxBytes + o.EngineMaxBytes
	for _, k := range subjects.Buckets(o) {
		limit -= k.MaxBytes
	}
	if sum <= limit || limit <= 0 {
		return o, 1
	}
	factor = float64(limit) / float64(sum)
	for _, n := range []*int64{&o.InMaxBytes, &o.OKMaxBytes, &o.RecordMaxBytes, &o.LedgerMaxBytes, &o.EngineMaxBytes} {
		*n = int64(float64(*n) * factor)
	}
	return o, factor
}
