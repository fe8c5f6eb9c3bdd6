//go:build e2e && linux

package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"
)

// sample is what a process used at a moment of a soak.
type sample struct {
	process    string
	life       int           // of the process, counted from one
	at         time.Duration // since the soak began
	age        time.Duration // of the life
	rss, heap  int64         // resident, and live after a collection, bytes
	goroutines int
}

// measured is what a soak judges of a sample, and by how much it may grow beyond a tenth: what is noise whatever the
// level. The store keeps blocks of its files in memory while they are read and written, eight megabytes
// each, which come and go; what waits for a disk has goroutines. A few seconds tell little more than that, so
// their noise is larger.
type measured struct {
	name              string
	of                func(sample) float64
	noise, storeNoise float64 // storeNoise is that of a process with the store
}

// measures are what a soak judges.
func measures() []measured {
	return []measured{
		{"rss MB", func(x sample) float64 { return mb(x.rss) }, 32, 64},
		{"heap MB", func(x sample) float64 { return mb(x.heap) }, 12, 64},
		{"goroutines", func(x sample) float64 { return float64(x.goroutines) }, 64, 64},
	}
}

func (m measured) exceeds(process string, before, after float64) bool {
	noise := m.noise
	if process == "node" || process == "bus" {
		noise = m.storeNoise
	}
	if soakMinutes() == 0 {
		noise *= 4
	}
	return after > 1.1*before+noise
}

// life is the samples of one life of a process after its warm-up.
type life struct {
	process string
	number  int
	warm    []sample
}

// enough is how many values a median of thirds needs.
const enough = 6

func livesOf(samples []sample, warm time.Duration) (lives []*life) {
	for _, x := range samples {
		i := slices.IndexFunc(lives, func(l *life) bool { return l.process == x.process && l.number == x.life })
		if i < 0 {
			lives = append(lives, &life{process: x.process, number: x.life})
			i = len(lives) - 1
		}
		if x.age >= warm {
			lives[i].warm = append(lives[i].warm, x)
		}
	}
	return lives
}

func (l *life) values(m measured) (vs []float64) {
	for _, x := range l.warm {
		vs = append(vs, m.of(x))
	}
	return vs
}

// grown tells what grew beyond its bound: within a life, and from the first lives of a process to its last ones, for
// what outlives a process lies on its disk. Medians of thirds are compared, so one sample tells nothing.
func grown(lives []*life) (faults []string) {
	perProcess := map[string][]*life{}
	for _, l := range lives {
		perProcess[l.process] = append(perProcess[l.process], l)
		for _, m := range measures() {
			if before, after, ok := thirds(l.values(m)); ok && m.exceeds(l.process, before, after) {
				faults = append(faults, fmt.Sprintf("%s of %s grew in its life %d from %.1f to %.1f", m.name, l.process, l.number, before, after))
			}
		}
	}
	for process, ls := range perProcess {
		for _, m := range measures() {
			var medians []float64
			for _, l := range ls {
				if len(l.warm) > 0 {
					medians = append(medians, median(l.values(m)))
				}
			}
			if before, after, ok := thirds(medians); ok && m.exceeds(process, before, after) {
				faults = append(faults, fmt.Sprintf("%s of %s grew over its lives from %.1f to %.1f", m.name, process, before, after))
			}
		}
	}
	slices.Sort(faults)
	return faults
}

// thirds are the medians of the first and of the last third.
func thirds(vs []float64) (first, last float64, ok bool) {
	if len(vs) < enough {
		return 0, 0, false
	}
	n := len(vs) / 3
	return median(vs[:n]), median(vs[len(vs)-n:]), true
}

func median(vs []float64) float64 {
	s := slices.Sorted(slices.Values(vs))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

func mb(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// tableOfLives shows what is judged.
func tableOfLives(lives []*life) string {
	return table("process\tlife\twarm samples\trss MB\theap MB\tgoroutines", lives, func(l *life) string {
		row := fmt.Sprintf("%s\t%d\t%d", l.process, l.number, len(l.warm))
		for _, m := range measures() {
			switch before, after, ok := thirds(l.values(m)); {
			case ok:
				row += fmt.Sprintf("\t%.1f to %.1f", before, after)
			case len(l.warm) > 0:
				row += fmt.Sprintf("\t%.1f", median(l.values(m)))
			default:
				row += "\t-"
			}
		}
		return row
	})
}

// tableOfSamples shows everything that was seen.
func tableOfSamples(samples []sample) string {
	return table("at\tprocess\tlife\tage\trss MB\theap MB\tgoroutines", samples, sample.String)
}

func table[T any](head string, rows []T, line func(T) string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, head)
	for _, r := range rows {
		fmt.Fprintln(w, line(r))
	}
	_ = w.Flush()
	return b.String()
}

// lineValue is the number after a prefix at the start of a line.
func lineValue(text, prefix string) (float64, bool) {
	for line := range strings.Lines(text) {
		if after, ok := strings.CutPrefix(line, prefix); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(after), 64)
			return v, err == nil
		}
	}
	return 0, false
}

func TestGrowthIsToldFromNoise(t *testing.T) {
	lives := func(n int, rss func(life, i int) int64) []*life {
		var samples []sample
		for l := range n {
			for i := range 12 {
				samples = append(samples, sample{
					process: "node", life: l + 1, age: time.Duration(i) * time.Second, rss: rss(l, i) << 20, heap: 50 << 20, goroutines: 100 + 10*(i%2),
				})
			}
		}
		return livesOf(samples, 2*time.Second)
	}
	require.Empty(t, grown(lives(9, func(_, i int) int64 { return 200 + 100*int64(i%5/4) })), "a few outliers")
	require.Empty(t, grown(lives(1, func(_, i int) int64 { return 400 - 10*int64(i) })), "less is welcome")
	require.Len(t, grown(lives(1, func(_, i int) int64 { return 200 + 50*int64(i) })), 1, "within a life")
	require.Len(t, grown(lives(9, func(l, _ int) int64 { return 200 + 50*int64(l) })), 1, "from life to life")
	require.Empty(t, grown(lives(1, func(_, i int) int64 { return 500 - 300*min(int64(i), 2)/2 })), "before the warm-up")
	v, ok := lineValue("# HELP a\na_b 1\na 2.5e+06\n", "a ")
	require.True(t, ok)
	require.InDelta(t, 2.5e6, v, 0)
}
