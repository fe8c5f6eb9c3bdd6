package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Errors of a replay that ran.
var (
	// ErrLosses: orders got no answer, could not be sent as asked, or came back under another hash.
	ErrLosses = errors.New("orders were lost")
	// ErrInterrupted: the replay was broken off before the end of its range.
	ErrInterrupted = errors.New("the replay was broken off")
)

const (
	// maxReasons bounds the distinct reasons of one kind; further ones count as "other".
	maxReasons = 32
	maxReason  = 120
)

// Latency is from request to answer, in microseconds; of an order that waited for a connection, from
// its time.
type Latency struct {
	P50 int64 `json:"p50_us"`
	P90 int64 `json:"p90_us"`
	P99 int64 `json:"p99_us"`
	Max int64 `json:"max_us"`
}

// Counts are what became of the orders so far.
type Counts struct {
	Read     int `json:"read"`     // orders of the range
	Chosen   int `json:"chosen"`   // by the filters
	Sent     int `json:"sent"`     // with a final result: accepted, refused or lost
	Accepted int `json:"accepted"` // by the target
	Refused  int `json:"refused"`  // by the target, for what they are
	Lost     int `json:"lost"`     // without a final answer
	// Withheld are those that a builder never gets: a worker refuses them.
	Withheld int `json:"withheld"`
	// Unsendable are those that can't be sent as asked.
	Unsendable int `json:"unsendable"`
	Late       int `json:"late"`       // begun more than 10 ms after their time
	Resent     int `json:"resent"`     // further requests for orders that had no answer
	OtherHash  int `json:"other_hash"` // accepted under another hash than recorded
	Bytes      int `json:"bytes"`      // of accepted bodies
}

// Report is what a replay did.
type Report struct {
	Counts
	DryRun   bool           `json:"dry_run,omitempty"`
	Complete bool           `json:"complete"` // to the end of the range
	Started  time.Time      `json:"started"`
	Elapsed  time.Duration  `json:"elapsed_ns"`
	FirstAt  time.Time      `json:"first_received_at,omitzero"` // of the orders chosen
	LastAt   time.Time      `json:"last_received_at,omitzero"`
	Sequence uint64         `json:"last_sequence,omitempty"` // of the last order that was chosen
	Refusals map[string]int `json:"refused_reasons"`
	Losses   map[string]int `json:"lost_reasons"`
	Held     map[string]int `json:"withheld_reasons"`
	Methods  map[string]int `json:"methods"`
	Classes  map[string]int `json:"priorities"`
	Rate     float64        `json:"orders_per_second"`
	Latency  Latency        `json:"latency"`
	MaxLag   time.Duration  `json:"max_lag_ns"` // furthest behind its time that an order began
}

// Err is nil when nothing was lost and the replay came to its end.
func (r *Report) Err() error {
	var errs []error
	if !r.Complete {
		errs = append(errs, ErrInterrupted)
	}
	if r.Lost+r.Unsendable+r.OtherHash > 0 {
		errs = append(errs, fmt.Errorf("%w: %d without an answer, %d that can't be sent like this, %d under another hash",
			ErrLosses, r.Lost, r.Unsendable, r.OtherHash))
	}
	return errors.Join(errs...)
}

// WriteJSON writes the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("recorded", "%d read, %d chosen%s", r.Read, r.Chosen, r.span())
	if r.DryRun {
		line("dry run", "nothing was sent; %d would be", r.Chosen-r.Withheld-r.Unsendable)
	} else {
		line("sent", "%d in %s: %.1f/s, %.1f MB", r.Sent, r.Elapsed.Round(time.Millisecond), r.Rate, float64(r.Bytes)/1e6)
	}
	if !r.DryRun {
		line("accepted", "%d%s", r.Accepted, ifAny(r.OtherHash, ", %d of them under another hash than recorded"))
		line("refused", "%d", r.Refused)
		reasons(&b, r.Refusals)
		line("lost", "%d", r.Lost)
	}
	if r.Withheld > 0 {
		line("withheld", "%d that no builder gets", r.Withheld)
		reasons(&b, r.Held)
	}
	if r.Unsendable > 0 {
		line("unsendable", "%d", r.Unsendable)
	}
	reasons(&b, r.Losses)
	if !r.DryRun {
		line("late", "%d%s%s", r.Late, ifAny(int(r.MaxLag.Milliseconds()), ", at most %d ms behind"), ifAny(r.Resent, "; %d requests again"))
		line("latency", "p50 %s, p90 %s, p99 %s, max %s", us(r.Latency.P50), us(r.Latency.P90), us(r.Latency.P99), us(r.Latency.Max))
	}
	line("methods", "%s", tally(r.Methods))
	line("priorities", "%s", tally(r.Classes))
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (r *Report) span() string {
	if r.FirstAt.IsZero() {
		return ""
	}
	return fmt.Sprintf("; received from %s on, over %s, up to sequence %d", r.FirstAt.UTC().Format("2006-01-02T15:04:05.000Z"),
		r.LastAt.Sub(r.FirstAt).Round(time.Millisecond), r.Sequence)
}

func ifAny(n int, format string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(format, n)
}

// reasons prints the most frequent first.
func reasons(b *strings.Builder, counts map[string]int) {
	names := slices.Sorted(maps.Keys(counts))
	slices.SortStableFunc(names, func(x, y string) int { return counts[y] - counts[x] })
	for _, name := range names {
		fmt.Fprintf(b, "  %6d  %s\n", counts[name], name)
	}
}

func tally(counts map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(parts, ", ")
}

func us(n int64) string {
	return (time.Duration(n) * time.Microsecond).Round(10 * time.Microsecond).String()
}

// count adds one under a reason, within bounds.
func count(m map[string]int, reason string) {
	reason = printable(reason)
	if _, ok := m[reason]; !ok && len(m) >= maxReasons {
		reason = "other"
	}
	m[reason]++
}

// printable keeps what a target says from steering the terminal.
func printable(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == '\ufffd' {
			return '.'
		}
		return c
	}, s[:min(len(s), maxReason)])
	return strings.ToValidUTF8(s, ".")
}

// newHistogram spans a microsecond to ten minutes with three digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(10*time.Minute/time.Microsecond), 3)
}

func latency(h *hdrhistogram.Histogram) Latency {
	return Latency{P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99), Max: h.Max()}
}
