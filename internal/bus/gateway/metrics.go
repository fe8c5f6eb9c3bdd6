package gateway

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/internal/rpcapi"
)

// metrics are the shared queue's series, by class; every label value exists from the start.
type metrics struct {
	offered, full, served, repeated, refused [rpcapi.Classes + 1]prometheus.Counter
	interrupted                              prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{interrupted: f.NewCounter(prometheus.CounterOpts{
		Name: "millrace_gateway_shared_interrupted_total", Help: "Times that calls could not be taken from the shared queue.",
	})}
	for _, c := range []struct {
		to         *[rpcapi.Classes + 1]prometheus.Counter
		name, help string
	}{
		{&m.offered, "offered", "Calls that this process put into the shared queue."},
		{&m.full, "full", "Calls of this process that the shared queue had no room for."},
		{&m.served, "served", "Calls that this process took from the shared queue."},
		{&m.repeated, "repeated", "Calls that this process took after another one died over them."},
		{&m.refused, "not_repeated", "Calls that another process died over and that must not run twice."},
	} {
		v := f.NewCounterVec(prometheus.CounterOpts{Name: "millrace_gateway_shared_" + c.name + "_total", Help: c.help}, []string{"class"})
		for class := rpcapi.FastTrack; class <= rpcapi.Low; class++ {
			c.to[class] = v.WithLabelValues(class.String())
		}
	}
	return m
}
