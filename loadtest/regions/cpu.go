package regions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"slices"
	"time"

	"github.com/google/pprof/profile"
)

// Goroutines of the network carry this label, so that a profile of the process tells them apart.
const (
	labelKey   = "millrace"
	labelValue = "links"
)

// labelled runs do with the label, which every goroutine that it starts inherits.
func labelled(ctx context.Context, do func(context.Context)) {
	pprof.Do(ctx, pprof.Labels(labelKey, labelValue), do)
}

// MeasureCPU runs do and returns what the links of this process took meanwhile, by samples of the
// CPU profiler, a hundred a second of each busy core; collecting garbage is in none of them. Without
// the profiler, because somebody else uses it, the time is zero.
func MeasureCPU(do func() error) (time.Duration, error) {
	var b bytes.Buffer
	if err := pprof.StartCPUProfile(&b); err != nil {
		return 0, do()
	}
	err := do()
	pprof.StopCPUProfile()
	took, perr := labelledCPU(b.Bytes())
	return took, errors.Join(err, perr)
}

// labelledCPU adds up the samples of a profile that carry our label.
func labelledCPU(raw []byte) (time.Duration, error) {
	p, err := profile.ParseData(raw)
	if err != nil {
		return 0, fmt.Errorf("read profile: %w", err)
	}
	at := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == "cpu" && t.Unit == "nanoseconds" })
	if at < 0 {
		return 0, nil
	}
	var sum int64
	for _, s := range p.Sample {
		if slices.Contains(s.Label[labelKey], labelValue) {
			sum += s.Value[at]
		}
	}
	return time.Duration(sum), nil
}
