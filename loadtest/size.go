package loadtest

import "math"

// sizeQuantiles is the published size distribution of bundles (JSON bytes: p50 3 kB, p90 19 kB,
// p99 40 kB, mean about 7 kB); between two points the size grows geometrically.
var sizeQuantiles = [...]struct{ q, size float64 }{ //nolint:gochecknoglobals // a constant table
	{0, 400}, {0.50, 2966}, {0.90, 19376}, {0.99, 40390}, {1, 60000},
}

// bundleSize returns the size at u in [0, 1).
func bundleSize(u float64) int {
	for i := 1; i < len(sizeQuantiles); i++ {
		lo, hi := sizeQuantiles[i-1], sizeQuantiles[i]
		if u < hi.q {
			return int(lo.size * math.Pow(hi.size/lo.size, (u-lo.q)/(hi.q-lo.q)))
		}
	}
	return int(sizeQuantiles[len(sizeQuantiles)-1].size)
}
