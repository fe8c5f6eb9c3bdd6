package rpc

import (
	"context"
	"log/slog"

	"millrace/internal/rpcapi"
)

// record writes the line of one request. The keys are prio-load-balancer's, for whoever has dashboards on them; the
// node is shown without what may be secret in its URI.
func (d *Door) record(ctx context.Context, m *message) {
	attrs := make([]slog.Attr, 0, 16)
	add := func(key string, v slog.Value) { attrs = append(attrs, slog.Attr{Key: key, Value: v}) }
	if m.client.RequestID != "" {
		add("reqID", slog.StringValue(m.client.RequestID))
	}
	add("requestIsHighPrio", slog.BoolValue(m.client.Class == rpcapi.High))
	add("requestIsFastTrack", slog.BoolValue(m.client.Class == rpcapi.FastTrack))
	add("payloadSize", slog.IntValue(len(m.body.data)))
	add("durationMs", slog.Int64Value(m.elapsed.Milliseconds()))
	add("durationUs", slog.Int64Value(m.elapsed.Microseconds()))
	add("statusCode", slog.IntValue(m.status))
	add("requestTries", slog.IntValue(m.tries))
	if m.node != nil {
		add("nodeURI", slog.StringValue(m.node.Label))
	}
	if a := m.answer; a != nil {
		add("simDurationUs", slog.Int64Value(a.Served.Microseconds()))
		add("queueDurationUs", slog.Int64Value(a.Queued.Microseconds()))
		add("startQueueSize", slog.IntValue(a.QueueStart))
		add("endQueueSize", slog.IntValue(a.QueueEnd))
	}
	if m.reason != "" {
		add("err", slog.StringValue(string(m.reason)))
		d.log.LogAttrs(ctx, slog.LevelInfo, "Request proxying failed", attrs...)
		return
	}
	d.log.LogAttrs(ctx, slog.LevelInfo, "Request completed", attrs...)
}
