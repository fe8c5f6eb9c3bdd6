package engine

import (
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/egress/engine/compare"
	"millrace/internal/engineapi/record"
)

// Played is one call that a Runner made: a line of a capture, with how it compares.
type Played struct {
	record.Pair
	Class   compare.Class
	Why     string
	Primary time.Duration // the primary's time for the call, 0 when not known
}

// Latency is how long one method took.
type Latency struct {
	Method string  `json:"method"`
	Calls  int     `json:"calls"`
	P50    float64 `json:"p50_seconds"`
	P99    float64 `json:"p99_seconds"`
	// PrimaryP50 and PrimaryP99 are the recorded primary's for the same calls.
	PrimaryP50 float64 `json:"primary_p50_seconds"`
	PrimaryP99 float64 `json:"primary_p99_seconds"`
}

// BuiltPair is a payload that primary and client built for the same slot.
type BuiltPair struct {
	Number     uint64                  `json:"number"`
	Primary    record.Built            `json:"primary"`
	Client     record.Built            `json:"client"`
	Difference compare.BuiltDifference `json:"difference"`
}

// Summary is what came of a replay.
type Summary struct {
	Play Play `json:"mode"`
	// Recorded is how many eligible payloads and forkchoices the range has (in PlayBuild getPayload calls
	// too), Sent how many were sent.
	Recorded int           `json:"recorded"`
	Sent     int           `json:"sent"`
	Elapsed  time.Duration `json:"elapsed_ns"`
	// Classes counts the comparisons. What was not sent is not_compared.
	Classes     map[string]int `json:"classes"`
	Latencies   []Latency      `json:"latencies"`
	Built       []BuiltPair    `json:"built,omitempty"`
	Divergences []Divergence   `json:"divergences,omitempty"` // the first for each class and root
	// Head is where the client ended, Want the range's last forkchoice.
	Head   common.Hash `json:"head"`
	Number uint64      `json:"number"`
	Want   common.Hash `json:"want"`
}

// Mismatches is how many comparisons found a difference that is worth a look.
func (s *Summary) Mismatches() int {
	n := 0
	for _, c := range compare.Classes() {
		if c.Divergent() || c == compare.Lag || c == compare.Info || c == compare.Transient {
			n += s.Classes[c.String()]
		}
	}
	return n
}

// Critical says whether the client disagrees about a block.
func (s *Summary) Critical() bool { return s.Classes[compare.Critical.String()] > 0 }

// EqualHeads says whether the client ended at the range's last forkchoice.
func (s *Summary) EqualHeads() bool { return s.Head == s.Want }

// times collects durations by method.
type times map[string]*[2][]time.Duration

func (t times) add(method string, client, primary time.Duration) {
	d := t[method]
	if d == nil {
		d = &[2][]time.Duration{}
		t[method] = d
	}
	d[0] = append(d[0], client)
	if primary > 0 {
		d[1] = append(d[1], primary)
	}
}

func (t times) latencies() []Latency {
	all := make([]Latency, 0, len(t))
	for method, d := range t {
		slices.Sort(d[0])
		slices.Sort(d[1])
		all = append(all, Latency{
			Method: method, Calls: len(d[0]),
			P50: quantile(d[0], 0.5), P99: quantile(d[0], 0.99),
			PrimaryP50: quantile(d[1], 0.5), PrimaryP99: quantile(d[1], 0.99),
		})
	}
	slices.SortFunc(all, func(a, b Latency) int {
		if a.Method < b.Method {
			return -1
		}
		return 1
	})
	return all
}

// quantile is of sorted durations, in seconds.
func quantile(d []time.Duration, q float64) float64 {
	if len(d) == 0 {
		return 0
	}
	return d[min(int(q*float64(len(d))), len(d)-1)].Seconds()
}
