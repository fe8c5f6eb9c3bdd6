package ingress

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// tasksDir has what Linux tells about each thread of this process.
const tasksDir = "/proc/self/task"

// crowd tells how many threads of this process wait for a CPU, which the runtime can't see: to it a goroutine
// runs that the kernel has put aside for another process. It is zero where the kernel does not tell.
type crowd struct {
	dir    string
	before time.Duration // of waiting, all threads together
	at     time.Time
}

// read returns how many threads waited, on average, since it was read last.
func (c *crowd) read(now time.Time) float64 {
	waited, ok := c.waited()
	since := now.Sub(c.at)
	before, first := c.before, c.at.IsZero()
	c.before, c.at = waited, now
	if !ok || first || since <= 0 {
		return 0
	}
	return float64(max(waited-before, 0)) / float64(since) // a thread that ended takes its waiting along
}

// forget has the next reading be the first.
func (c *crowd) forget() { c.at = time.Time{} }

// waited is for how long the threads have waited in their lives.
func (c *crowd) waited() (total time.Duration, ok bool) {
	tasks, err := os.ReadDir(c.dir)
	if err != nil {
		return 0, false
	}
	for _, t := range tasks {
		// Nanoseconds on a CPU, nanoseconds waiting for one, turns.
		b, err := os.ReadFile(filepath.Join(c.dir, t.Name(), "schedstat"))
		if err != nil {
			continue // it has ended
		}
		_, b, _ = bytes.Cut(b, []byte(" "))
		b, _, _ = bytes.Cut(b, []byte(" "))
		n, err := strconv.ParseInt(string(b), 10, 64)
		if err != nil {
			return 0, false
		}
		total += time.Duration(n)
	}
	return total, len(tasks) > 0
}
