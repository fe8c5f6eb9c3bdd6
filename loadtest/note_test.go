package loadtest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// notes counts what is written.
type notes struct {
	mu    sync.Mutex
	lines []string
}

func (n *notes) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, string(b))
	return len(b), nil
}

func (n *notes) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.lines...)
}

func TestLongRunSaysHowFarItIs(t *testing.T) {
	n, j := &notes{}, &Journal{}
	j.add(Result{Answer: AnswerAccepted})
	j.add(Result{Answer: AnswerShed})
	stop := (&Scenario{Notes: n}).note(j, time.Now(), time.Millisecond)
	require.Eventually(t, func() bool { return len(n.all()) > 1 }, 10*time.Second, time.Millisecond)
	stop()
	after := len(n.all())
	require.Equal(t, "0s: 2 answered, 1 accepted, 1 shed\n", n.all()[0])
	require.Len(t, n.all(), after, "silent after stop")
	(&Scenario{}).note(j, time.Now(), time.Millisecond)()
}
