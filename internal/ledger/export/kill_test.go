package export

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

const (
	victimEnv = "MILLRACE_EXPORT_VICTIM"
	victims   = 4000 / thin // batches that there are
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimEnv); dir != "" {
		os.Exit(victim(dir))
	}
	goleak.VerifyTestMain(m)
}

// endless has the batches one at a time.
type endless struct{}

func (endless) Read(ctx context.Context, _ Log, from uint64, _ time.Time, open func(Span) error, each func(*Message) error) (uint64, error) {
	if err := open(Span{First: 1, Last: victims, Created: epoch, Node: "n"}); err != nil {
		return 0, err
	}
	for seq := max(from, 1); seq <= victims; seq++ {
		if err := each(doneMessage(seq)); err != nil {
			return 0, err
		}
	}
	return 1, ctx.Err()
}

// doneOnly is a log of DONE alone.
type doneOnly struct{ Reader }

func (d doneOnly) Read(ctx context.Context, l Log, from uint64, since time.Time, open func(Span) error, each func(*Message) error) (uint64, error) {
	if l != LogDone {
		return 0, ErrNoLog
	}
	return d.Reader.Read(ctx, l, from, since, open, each)
}

func victim(dir string) int {
	e, err := New(Config{Out: dir, Datasets: []string{DatasetLedger}, MaxRows: 16, MaxBytes: 1 << 30, MaxAge: time.Hour}, doneOnly{endless{}})
	if err == nil {
		err = e.Run(context.Background())
	}
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return 0
}

func TestKilledAtAnyTimeItGoesOnWithoutGapOrRepeat(t *testing.T) {
	cfg := ledgerConfig(t)
	random := rand.New(rand.NewPCG(1, 2))
	kills, ended := 0, false
	for !ended {
		had := len(files(t, cfg, DatasetLedger))
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), victimEnv+"="+cfg.Out)
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		moved := func() bool { return kills < 25 && len(files(t, cfg, DatasetLedger)) > had }
		for tick := time.NewTicker(time.Millisecond); !ended; {
			select {
			case err := <-done:
				require.NoError(t, err)
				ended = true
			case <-tick.C:
			}
			if !ended && moved() && random.IntN(30) == 0 {
				require.NoError(t, cmd.Process.Kill())
				<-done
				kills++
				break
			}
		}
		for _, name := range files(t, cfg, DatasetLedger) { // whatever has its name can be read
			f := folder{path: filepath.Join(cfg.Out, DatasetLedger), dataset: DatasetLedger, log: LogDone}
			spans, err := f.spans()
			require.NoError(t, err)
			require.NoError(t, f.inspect(&spans[len(spans)-1]), name)
			break
		}
	}
	t.Logf("%d kills, %d files", kills, len(files(t, cfg, DatasetLedger)))
	require.Equal(t, running(victims), columnOf(t, cfg, DatasetLedger, "sequence"))
	next := uint64(1)
	for _, r := range ranges(t, cfg, DatasetLedger, LogDone) {
		require.Equal(t, next, r.First)
		next = r.Last + 1
	}
}
