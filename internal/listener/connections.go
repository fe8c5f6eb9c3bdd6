package listener

import (
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

// CountStates is a server's ConnState: it counts each state that a connection comes to. The label state is all that
// conns has left open; every value exists from now on.
func CountStates(conns *prometheus.CounterVec) func(net.Conn, http.ConnState) {
	counters := make(map[http.ConnState]prometheus.Counter)
	for st := http.StateNew; st <= http.StateClosed; st++ {
		counters[st] = conns.WithLabelValues(st.String())
	}
	return func(_ net.Conn, st http.ConnState) {
		if c, ok := counters[st]; ok {
			c.Inc()
		}
	}
}
