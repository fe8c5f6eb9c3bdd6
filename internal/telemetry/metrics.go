package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Build is what a binary says about itself.
type Build struct {
	Version   string `json:"version"`
	Commit    string `json:"commit"`
	Go        string `json:"go"`
	Secp256k1 string `json:"secp256k1"` // which implementation recovers signatures
}

// NewRegistry returns a registry with the Go runtime, the process and millrace_build_info in it.
func NewRegistry(b Build) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	f := promauto.With(reg)
	f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "millrace_build_info",
		Help: "Always 1; what this binary was built from.",
	}, []string{"version", "commit", "go", "secp256k1"}).WithLabelValues(b.Version, b.Commit, b.Go, b.Secp256k1).Set(1)
	// Fresh registry: neither can collide.
	_ = reg.Register(collectors.NewGoCollector())
	_ = reg.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}
