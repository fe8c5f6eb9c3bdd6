package loadtest

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency is a summary of one histogram, in microseconds.
type Latency struct {
	Count int64 `json:"count"`
	P50   int64 `json:"p50_us"`
	P90   int64 `json:"p90_us"`
	P99   int64 `json:"p99_us"`
	P999  int64 `json:"p999_us"`
	Max   int64 `json:"max_us"`
}

// newHistogram spans a microsecond to ten minutes with three digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(10*time.Minute/time.Microsecond), 3)
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	// The only error is a value beyond the range, which is then its upper end.
	if h.RecordValue(max(d.Microseconds(), 1)) != nil {
		_ = h.RecordValue(h.HighestTrackableValue())
	}
}

func summarize(h *hdrhistogram.Histogram) Latency {
	return Latency{
		Count: h.TotalCount(), P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99),
		P999: h.ValueAtQuantile(99.9), Max: h.Max(),
	}
}

// FlowReport is what happened to one flow.
type FlowReport struct {
	Name    string         `json:"name"`
	Sent    int            `json:"sent"`
	Rate    float64        `json:"rate"` // answers per second
	Answers map[string]int `json:"answers"`
	// Answer is request to answer; from the intended time when no connection was free.
	Answer Latency `json:"answer"`
	// Wire is from the same moment to the sink's receipt (the body read there), of accepted orders.
	Wire Latency `json:"wire_to_wire"`
	// Wakeup is how late the generator itself was with the orders whose connection was free; no part
	// of the latencies. Queued is how many found no connection free; Queue is their wait, which is.
	Wakeup Latency `json:"generator_wakeup"`
	Queued int     `json:"queued"`
	Queue  Latency `json:"queue_wait"`
	// AnswerCurve and WireCurve are the distributions of which Answer and Wire are the summaries.
	AnswerCurve []Quantile `json:"answer_curve,omitempty"`
	WireCurve   []Quantile `json:"wire_to_wire_curve,omitempty"`
	WakeupCurve []Quantile `json:"generator_wakeup_curve,omitempty"`
	Bytes       int64      `json:"bytes"`
	Txs         int        `json:"txs"`
	Repeats     float64    `json:"repeated_share"` // of the transactions, in an earlier order of the flow
	// Recent is the share of the transactions that were sent less than 36 s before: what a signer
	// cache of that age can know.
	Recent float64 `json:"repeated_within_36s_share"`
}

// Schemas of the reports; a number is raised when a field changes its meaning or goes away.
const (
	SchemaRun     = "millrace.loadtest.run/1"
	SchemaCompare = "millrace.loadtest.compare/1"
	SchemaSweep   = "millrace.loadtest.sweep/1"
)

// Report is what a run found. Times are of the generator's clock.
type Report struct {
	Schema       string        `json:"schema"`
	Started      time.Time     `json:"started"`
	Elapsed      time.Duration `json:"elapsed_ns"`
	Setup        Setup         `json:"setup"`
	Flows        []FlowReport  `json:"flows"`
	CPU          time.Duration `json:"cpu_ns,omitempty"`               // of the watched processes, until the last order had ended
	PerOrder     time.Duration `json:"cpu_per_order_ns,omitempty"`     // by accepted orders
	PerDelivered time.Duration `json:"cpu_per_delivered_ns,omitempty"` // by orders that reached the sink
	PeakRSS      int64         `json:"peak_rss_bytes,omitempty"`
	Generator    Generator     `json:"generator"`
	Series       *Series       `json:"series,omitempty"`
	Usage        *UsageSeries  `json:"usage,omitempty"`
	Stages       []Stage       `json:"stages,omitempty"` // of the target, by its own metrics
	Check        *Verification `json:"check,omitempty"`
}

// Setup is what was asked for.
type Setup struct {
	Doors       []string `json:"doors"`           // host:port
	Rate        float64  `json:"rate_per_second"` // zero: closed loop
	Spacing     string   `json:"spacing"`
	Seconds     float64  `json:"seconds"`
	Connections int      `json:"connections"`
	Seed        uint64   `json:"seed"`
	First       uint64   `json:"first"`
	Mix         string   `json:"mix"`
	Size        int      `json:"size_bytes,omitempty"` // of every bundle; zero: the published distribution
	Cores       int      `json:"cores"`                // of the machine
	Platform    string   `json:"platform"`
}

// setup describes one flow.
func (f Flow) setup() Setup {
	s := Setup{
		Rate: f.Rate, Spacing: max(f.Spacing, SpacingEven).String(), Seconds: f.Duration.Seconds(), Connections: f.Connections,
		Seed: f.Corpus.Seed, First: f.First, Mix: f.Corpus.withDefaults().Mix.String(), Size: f.Corpus.Size,
		Cores: runtime.NumCPU(), Platform: runtime.GOOS + "/" + runtime.GOARCH + ", " + runtime.Version(),
	}
	for _, raw := range f.URLs {
		if u, err := parseDoor(raw); err == nil {
			s.Doors = append(s.Doors, u.Host)
		}
	}
	return s
}

// setup describes the first flow and, of several, the doors and rates of all.
func (s *Scenario) setup() Setup {
	all := s.Flows[0].setup()
	for _, f := range s.Flows[1:] {
		one := f.setup()
		all.Doors = append(all.Doors, one.Doors...)
		all.Rate += one.Rate
		all.Connections += one.Connections
	}
	slices.Sort(all.Doors)
	all.Doors = slices.Compact(all.Doors)
	return all
}

// acceptedRate is accepted orders per second of all flows while they were sent.
func (r *Report) acceptedRate() float64 {
	n := 0
	for _, f := range r.Flows {
		n += f.Answers[AnswerAccepted.String()]
	}
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(n) / r.Elapsed.Seconds()
}

// line is the report in one.
func (r *Report) line() string {
	f := r.Flows[0]
	text := fmt.Sprintf("%.0f/s accepted, answer p50 %s p99 %s, wire p50 %s p99 %s", r.acceptedRate(), us(f.Answer.P50), us(f.Answer.P99), us(f.Wire.P50), us(f.Wire.P99))
	if r.CPU > 0 {
		text += fmt.Sprintf(", %s CPU an order", r.PerOrder.Round(time.Microsecond))
	}
	if n := r.lost(); n > 0 {
		text += fmt.Sprintf(", %d lost", n)
	}
	return text
}

// lost is how many accepted orders have no end that is known.
func (r *Report) lost() int {
	if r.Check == nil {
		return 0
	}
	return r.Check.Breaks[BreakLost]
}

// Summarize makes a report of results and receipts; names are the flows', by tag number.
func Summarize(names []string, results []Result, receipts []Receipt) *Report {
	return summarizeAll(names, results, firstReceipts(receipts))
}

// firstReceipts is when the sink got each order first.
func firstReceipts(receipts []Receipt) map[Tag]time.Time {
	seen := make(map[Tag]time.Time, len(receipts))
	for i := range receipts {
		r := &receipts[i]
		if _, ok := seen[r.Tag]; r.Tagged && !ok {
			seen[r.Tag] = r.At
		}
	}
	return seen
}

func summarizeAll(names []string, results []Result, seen map[Tag]time.Time) *Report {
	rep := &Report{}
	for i, name := range names {
		rep.Flows = append(rep.Flows, summarizeFlow(name, uint16(i), results, seen))
	}
	return rep
}

func summarizeFlow(name string, flow uint16, results []Result, seen map[Tag]time.Time) FlowReport {
	f := FlowReport{Name: name, Answers: map[string]int{}}
	answer, wire, wakeup, queue := newHistogram(), newHistogram(), newHistogram(), newHistogram()
	var first, last time.Time
	repeats := 0
	for i := range results {
		r := &results[i]
		if r.Tag.Flow != flow {
			continue
		}
		f.Sent++
		f.Answers[r.Answer.String()]++
		f.Bytes += int64(r.Size)
		f.Txs += r.Txs
		repeats += r.Repeats
		if first.IsZero() || r.Sent.Before(first) {
			first = r.Sent
		}
		last = later(last, r.Done)
		if r.Scheduled {
			record(wakeup, r.Late)
		}
		if r.Waited > 0 {
			f.Queued++
			record(queue, r.Waited)
		}
		if r.Answer == AnswerAccepted {
			record(answer, r.Latency)
			if at, ok := seen[r.Tag]; ok {
				record(wire, at.Sub(r.Done.Add(-r.Latency)))
			}
		}
	}
	if f.Txs > 0 {
		f.Repeats = float64(repeats) / float64(f.Txs)
		f.Recent = float64(recentRepeats(flow, results)) / float64(f.Txs)
	}
	if d := last.Sub(first).Seconds(); d > 0 {
		f.Rate = float64(f.Sent) / d
	}
	f.Answer, f.Wire, f.Wakeup, f.Queue = summarize(answer), summarize(wire), summarize(wakeup), summarize(queue)
	f.AnswerCurve, f.WireCurve, f.WakeupCurve = curve(answer), curve(wire), curve(wakeup)
	return f
}

// recentAge is how long a signer cache of the target may be assumed to know a transaction.
const recentAge = 36 * time.Second

// recentRepeats counts the transactions that an order sent less than recentAge before had as well.
func recentRepeats(flow uint16, results []Result) int {
	bySent := make([]*Result, 0, len(results))
	for i := range results {
		if results[i].Tag.Flow == flow && results[i].Attempts > 0 {
			bySent = append(bySent, &results[i])
		}
	}
	slices.SortFunc(bySent, func(a, b *Result) int { return a.Sent.Compare(b.Sent) })
	lastSent := make(map[uint64]time.Time, len(bySent))
	n := 0
	for _, r := range bySent {
		for _, source := range r.Sources {
			if at, ok := lastSent[source]; ok && r.Sent.Sub(at) < recentAge {
				n++
			}
			lastSent[source] = r.Sent
		}
		lastSent[r.Tag.Seq] = r.Sent
	}
	return n
}
