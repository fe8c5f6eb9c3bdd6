package loadtest

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// maxMetrics bounds what is read of a metrics page, bytes.
const maxMetrics = 16 << 20

// Stage is what one stage of the target took during a run, by its own histograms; microseconds. All
// classes and builders are taken together.
type Stage struct {
	Part  string  `json:"part"` // of the pipeline: what stands before _stage_seconds
	Name  string  `json:"name"`
	Count uint64  `json:"count"`
	Mean  float64 `json:"mean_us"`
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
}

// stageKey names a stage.
type stageKey struct{ part, name string }

// bucketed is a Prometheus histogram: how many observations were at most as long as each bound.
type bucketed struct {
	sum    float64 // seconds
	count  float64
	bounds map[float64]float64 // upper bound in seconds, cumulative count
}

// stageOrder is the way of an order through a node; stages that aren't in it come after.
func stageOrder() []string {
	return []string{"body", "gate", "verify", "decode", "publish", "verdict", "queue_in", "validate", "queue", "send", "total"}
}

// scrapeStages reads the stage histograms of an admin listener.
func scrapeStages(ctx context.Context, admin string) (map[stageKey]bucketed, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("read stages: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read stages: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read stages: %w: %s", errResponse, resp.Status)
	}
	return parseStages(io.LimitReader(resp.Body, maxMetrics))
}

// parseStages reads the histograms named *_stage_seconds and *_wire_to_wire_seconds from the
// Prometheus text format. Lines that it doesn't understand are not about stages.
func parseStages(r io.Reader) (map[stageKey]bucketed, error) {
	out := map[stageKey]bucketed{}
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), 1<<20)
	for sc.Scan() {
		family, kind, labels, value, ok := parseSample(sc.Text())
		if !ok {
			continue
		}
		key, ok := stageOf(family, labels)
		if !ok {
			continue
		}
		b, seen := out[key]
		if !seen {
			b.bounds = map[float64]float64{}
		}
		switch kind {
		case "sum":
			b.sum += value
		case "count":
			b.count += value
		case "bucket":
			if le, err := strconv.ParseFloat(labels["le"], 64); err == nil {
				b.bounds[le] += value
			}
		}
		out[key] = b
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read stages: %w", err)
	}
	return out, nil
}

func stageOf(family string, labels map[string]string) (stageKey, bool) {
	family = strings.TrimPrefix(family, "millrace_")
	if part, ok := strings.CutSuffix(family, "_stage_seconds"); ok && labels["stage"] != "" {
		return stageKey{part, labels["stage"]}, true
	}
	if family == "order_wire_to_wire_seconds" {
		return stageKey{"wire to wire", "total"}, true
	}
	return stageKey{}, false
}

// parseSample splits `family_kind{a="b",...} value`.
func parseSample(line string) (family, kind string, labels map[string]string, value float64, ok bool) {
	name, rest, found := strings.Cut(line, "{")
	i := strings.LastIndexByte(name, '_')
	if !found || i < 0 || strings.HasPrefix(line, "#") {
		return "", "", nil, 0, false
	}
	labels = map[string]string{}
	for !strings.HasPrefix(rest, "}") {
		key, after, found := strings.Cut(rest, `="`)
		if !found {
			return "", "", nil, 0, false
		}
		val, after, found := strings.Cut(after, `"`) // no value of ours has an escaped quote
		if !found {
			return "", "", nil, 0, false
		}
		labels[key] = val
		rest = strings.TrimPrefix(after, ",")
	}
	value, err := strconv.ParseFloat(strings.TrimSpace(rest[1:]), 64)
	return name[:i], name[i+1:], labels, value, err == nil
}

// stagesBetween is what the stages took between two readings, in the order of an order's way.
func stagesBetween(before, after map[stageKey]bucketed) []Stage {
	var out []Stage
	for key, b := range after {
		a := before[key]
		n := b.count - a.count
		if n <= 0 || math.IsNaN(n) {
			continue
		}
		out = append(out, Stage{
			Part: key.part, Name: key.name, Count: uint64(n), Mean: 1e6 * (b.sum - a.sum) / n,
			P50: 1e6 * quantileBetween(a, b, 0.5), P99: 1e6 * quantileBetween(a, b, 0.99),
		})
	}
	rank := func(s Stage) int {
		if i := slices.Index(stageOrder(), s.Name); i >= 0 {
			return i
		}
		return len(stageOrder())
	}
	slices.SortFunc(out, func(a, b Stage) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Part, b.Part), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// quantileBetween estimates a quantile of what came between two readings: linear inside a bucket,
// the last finite bound beyond it. Seconds.
func quantileBetween(before, after bucketed, q float64) float64 {
	bounds := slices.Sorted(maps.Keys(after.bounds))
	want := q * (after.count - before.count)
	low, under := 0.0, 0.0
	for _, bound := range bounds {
		n := after.bounds[bound] - before.bounds[bound]
		if n >= want && n > under {
			if math.IsInf(bound, 1) {
				return low
			}
			return low + (bound-low)*(want-under)/(n-under)
		}
		if !math.IsInf(bound, 1) {
			low = bound
		}
		under = n
	}
	return low
}
