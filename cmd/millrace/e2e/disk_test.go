//go:build e2e && linux

package e2e

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/loadtest"
)

// volume is a small file system of its own, for the store and for a stranger's file.
type volume struct{ dir, foreign string }

func mountVolume(t *testing.T, megabytes int) *volume {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size="+strconv.Itoa(megabytes)+"m"); err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
			t.Skipf("mounting a tmpfs needs root: %v", err)
		}
		require.NoError(t, err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return &volume{dir: dir, foreign: filepath.Join(dir, "foreign")}
}

func (v *volume) usage(t *testing.T) (used, total int64) {
	t.Helper()
	var st syscall.Statfs_t
	require.NoError(t, syscall.Statfs(v.dir, &st))
	return int64(st.Blocks-st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize
}

// fillTo grows the stranger's file until the volume is percent full.
func (v *volume) fillTo(t *testing.T, percent int64) {
	t.Helper()
	f, err := os.OpenFile(v.foreign, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer f.Close()
	chunk := make([]byte, 1<<18)
	for {
		used, total := v.usage(t)
		if used*100 >= percent*total {
			return
		}
		if _, err := f.Write(chunk); err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			// What is left is less than a chunk.
			for err == nil || len(chunk) > 1 {
				chunk = chunk[:max(len(chunk)/2, 1)]
				_, err = f.Write(chunk)
			}
			return
		}
	}
}

func (v *volume) free(t *testing.T) {
	t.Helper()
	require.NoError(t, os.Remove(v.foreign))
}

// metric reads one unlabelled metric.
func metric(p *process, name string) (float64, bool) {
	_, page := get(p.admin + "/metrics")
	for line := range strings.Lines(page) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			return n, err == nil
		}
	}
	return 0, false
}

func metricIs(p *process, name string, want float64) func() bool {
	return func() bool { n, ok := metric(p, name); return ok && n == want }
}

// smallCaps keep the sum of the streams' limits below 80 % of 512 MB.
func smallCaps() []string {
	return []string{
		"--streams.in.max_bytes=24MiB", "--streams.ok.max_bytes=24MiB",
		"--record.orders.max_bytes=96MiB", "--record.ledger.max_bytes=48MiB",
	}
}

// The volume fills by a stranger's file: first recording stops, then the door closes, the ledger goes
// on, and the door opens again soon after there is space.
func TestAFullVolumeClosesTheDoorAndNothingElse(t *testing.T) {
	beside(t)
	v := mountVolume(t, 512)
	p := startNode(t, append(smallCaps(), "--nats.store_dir="+filepath.Join(v.dir, "data", "nats"))...)
	flow := careful(modest(200), short(25*time.Second, 40*time.Second))
	flow.Resend = 0
	l := p.startLoad(t, flow)
	nap(t, time.Second)

	v.fillTo(t, 83)
	eventually(t, 10*time.Second, metricIs(p.bus, "millrace_bus_record_paused", 1), "RECORD stops at 80 %%")
	require.True(t, metricIs(p.bus, "millrace_bus_door_closed", 0)(), "the door is open below 90 %%")
	taken := p.sink.Taken()
	eventually(t, 10*time.Second, func() bool { return p.sink.Taken() > taken+100 }, "orders still flow at 83 %%")

	v.fillTo(t, 92)
	eventually(t, 10*time.Second, metricIs(p.bus, "millrace_bus_door_closed", 1), "the door closes at 90 %%")
	o := orderOf(t, loadtest.ShapeBundle)
	var r reply
	eventually(t, 5*time.Second, func() bool {
		r = send(t, p.doors[0], o.Header, o.Body)
		return r.status == http.StatusServiceUnavailable
	}, "orders are refused with 503")
	require.NotEmpty(t, r.header.Get("Retry-After"))
	status, why := get(p.bus.admin + "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status, "not ready while the door is closed: %s", why)
	p.settled(t, l, 20*time.Second)

	v.free(t)
	began := time.Now()
	eventually(t, 15*time.Second, func() bool { return send(t, p.doors[0], o.Header, o.Body).status == http.StatusOK }, "the door opens again")
	reopened := time.Since(began)
	report(t, "door open %s after space came back", reopened.Round(time.Millisecond))
	require.Less(t, reopened, 5*time.Second)
	eventually(t, 15*time.Second, metricIs(p.bus, "millrace_bus_record_paused", 0), "recording goes on")
	l.wait(t)
	p.verify(t, l, 30*time.Second, 0)
	require.Positive(t, l.journal.Count(loadtest.AnswerShed))
}

// settled requires that everything accepted until now has its record already, while the load goes on:
// what is in the journal now is checked against later receipts and records.
func (p *pipeline) settled(t *testing.T, l *load, patience time.Duration) {
	t.Helper()
	sent := l.journal.Results()
	var v *loadtest.Verification
	eventually(t, patience, func() bool {
		records, err := loadtest.FetchLedger(t.Context(), p.egress.admin, l.started.Add(-time.Second))
		if err != nil {
			return false
		}
		v = loadtest.Check(sent, nil, records, loadtest.Expect{Targets: []string{target}})
		return v.Breaks[loadtest.BreakLost] == 0
	}, "the ledger is written while the door is closed")
	require.Positive(t, v.Records)
}

// The volume is full to the last byte under load: the process ends rather than goes on without a
// store, and after a restart with space everything accepted has its end.
func TestAHardFullVolumeLosesNothing(t *testing.T) {
	beside(t)
	for i := range rounds() {
		v := mountVolume(t, 512)
		p := startNode(t, append(smallCaps(), "--nats.store_dir="+filepath.Join(v.dir, "data", "nats"), "--orders.max_age=36s")...)
		l := p.startLoad(t, careful(modest(400), 16*time.Second))
		nap(t, 2*time.Second)
		v.fillTo(t, 100)
		full := time.Now()
		for !p.bus.ended() && time.Since(full) < 25*time.Second {
			nap(t, 50*time.Millisecond)
		}
		report(t, "round %d: ended by itself: %v, after %s of a full volume: %v", i+1, p.bus.ended(), time.Since(full).Round(time.Millisecond), p.bus.err)
		v.free(t)
		if p.bus.ended() {
			require.Error(t, p.bus.err, "a store that failed is a failure")
			p.bus.up(t)
		} else {
			eventually(t, 15*time.Second, func() bool {
				status, _ := get(p.bus.admin + "/readyz")
				return status == http.StatusOK || p.bus.ended()
			}, "ready again with space, or ended")
			if p.bus.ended() {
				p.bus.up(t)
			}
		}
		l.wait(t)
		p.verify(t, l, time.Minute, flight)
		p.logExpired(t, l)
		p.bus.kill(t)
	}
}

// logExpired names a few orders that expired, and when they came and ended: the builder was up.
func (p *pipeline) logExpired(t *testing.T, l *load) {
	t.Helper()
	records, err := loadtest.FetchLedger(t.Context(), p.egress.admin, l.started.Add(-time.Second))
	require.NoError(t, err)
	n := 0
	for _, r := range records {
		if r.Outcome == "expired" && n < 5 {
			n++
			t.Logf("expired: %s %s for %s, received %s, done %s", r.Priority, r.Hash, r.Target, r.Received.Format("15:04:05.000"), r.Done.Format("15:04:05.000"))
		}
	}
}
