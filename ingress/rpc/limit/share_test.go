package limit

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// load says how many calls come to each process in a step of 10 ms.
type load func(step int) (first, second int)

const step = 10 * time.Millisecond

// admit runs two processes with one limit of 100/s under a load, and returns when calls were admitted.
func admit(t *testing.T, seconds int, of load) (at []time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		cfg := Config{Budget: Budget{Total: rate(t, "100/s")}}
		a, b := limiter(t, cfg, h), limiter(t, cfg, h)
		stopA := run(t, a)
		time.Sleep(37 * time.Millisecond) // their ticks are apart
		stopB := run(t, b)
		time.Sleep(2 * time.Second)
		start := time.Now()
		for i := range seconds * int(time.Second/step) {
			first, second := of(i)
			for j := range max(first, second) {
				for _, p := range []struct {
					l *Limiter
					n int
				}{{a, first}, {b, second}} {
					if j < p.n {
						if _, ok := p.l.Allow(client, "", "eth_call", 1); ok {
							at = append(at, time.Since(start))
						}
					}
				}
			}
			time.Sleep(step)
		}
		stopA()
		stopB()
		time.Sleep(time.Second)
	})
	return at
}

// alone is how many one process admits of the whole load: the limit itself.
func alone(t *testing.T, seconds int, of load) (admitted int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, Config{Budget: Budget{Total: rate(t, "100/s")}}, nil)
		for i := range seconds * int(time.Second/step) {
			first, second := of(i)
			admitted += burst(l, first+second)
			time.Sleep(step)
		}
	})
	return admitted
}

// most is the most that was admitted in any second.
func most(at []time.Duration) (n int) {
	for i := range at {
		j, _ := slices.BinarySearch(at, at[i]+time.Second)
		n = max(n, j-i)
	}
	return n
}

func TestTwoProcessesHaveOneLimitUnderAnySplitOfLoad(t *testing.T) {
	const seconds = 6
	for name, of := range map[string]load{
		"all on one":       func(int) (int, int) { return 5, 0 },
		"all on the other": func(int) (int, int) { return 0, 5 },
		"half and half":    func(int) (int, int) { return 5, 5 },
		"nine to one":      func(int) (int, int) { return 9, 1 },
		"a little too much in all": func(i int) (int, int) {
			return min(1, i%3), 1
		},
		"bursts on both at once": func(i int) (int, int) {
			if i%50 == 0 {
				return 200, 200
			}
			return 0, 0
		},
		"bursts in turn": func(i int) (int, int) {
			switch i % 50 {
			case 0:
				return 200, 0
			case 25:
				return 0, 200
			}
			return 2, 2
		},
		"the load moves each second": func(i int) (int, int) {
			if i/100%2 == 0 {
				return 10, 0
			}
			return 0, 10
		},
		"the load moves all the time": func(i int) (int, int) {
			if i/7%2 == 0 {
				return 10, 0
			}
			return 0, 10
		},
	} {
		t.Run(name, func(t *testing.T) {
			at := admit(t, seconds, of)
			alone := alone(t, seconds, of)
			t.Logf("%s: %d admitted in %d s, at most %d in one; %d by one process", name, len(at), seconds, most(at), alone)
			require.LessOrEqual(t, most(at), 120)
			require.GreaterOrEqual(t, len(at), min(90*seconds, alone*9/10), "as many as there was demand for")
		})
	}
}

func TestNoLoadExceedsTheLimit(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		bursts := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) [3]int {
			return [3]int{
				rapid.IntRange(0, 299).Draw(r, "step"), rapid.IntRange(0, 1).Draw(r, "process"), rapid.IntRange(1, 150).Draw(r, "calls"),
			}
		}), 1, 30).Draw(r, "bursts")
		loads := make(map[int]*[2]int)
		for _, b := range bursts {
			if loads[b[0]] == nil {
				loads[b[0]] = new([2]int)
			}
			loads[b[0]][b[1]] += b[2]
		}
		at := admit(t, 3, func(i int) (int, int) {
			if l := loads[i]; l != nil {
				return l[0], l[1]
			}
			return 0, 0
		})
		if n := most(at); n > 120 {
			r.Fatalf("%d in one second", n)
		}
	})
}

func TestAProcessThatHearsNobodyHasTheWholeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		cfg := Config{Budget: Budget{Total: rate(t, "100/s")}}
		a, b := limiter(t, cfg, h), limiter(t, cfg, h)
		stopA, stopB := run(t, a), run(t, b)
		time.Sleep(time.Second)
		require.InDelta(t, 1, testutil.ToFloat64(a.m.peers), 0)
		require.Equal(t, 50, burst(a, 200))
		stopB() // takes leave
		time.Sleep(2 * time.Second)
		require.InDelta(t, 0, testutil.ToFloat64(a.m.peers), 0)
		require.Equal(t, 100, burst(a, 200))
		stopA()
		time.Sleep(time.Second)
	})
}

func TestAProcessThatDiesIsMissedAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		a := limiter(t, Config{Budget: Budget{Total: rate(t, "100/s")}}, h)
		stop := run(t, a)
		dead := frame{from: 7, note: noteHere}
		require.NoError(t, h.Tell(dead.append(nil)))
		time.Sleep(time.Second)
		require.Equal(t, 50, burst(a, 200))
		time.Sleep(4 * time.Second)
		require.Equal(t, 100, burst(a, 200))
		stop()
		time.Sleep(time.Second)
	})
}

func TestItFailsOpenWhenNobodyCanBeTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		h.err = errHub
		a := limiter(t, Config{Budget: Budget{Total: rate(t, "100/s")}}, h)
		stop := run(t, a)
		time.Sleep(time.Second)
		require.Equal(t, 100, burst(a, 200))
		require.Positive(t, testutil.ToFloat64(a.m.failures))
		stop()
	})
}

func TestNothingButSignsOfLifeIsToldWithoutTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		cfg := Config{Budget: Budget{Total: rate(t, "100/s")}}
		a, b := limiter(t, cfg, h), limiter(t, cfg, h)
		stopA, stopB := run(t, a), run(t, b)
		time.Sleep(time.Second)
		before := h.messages()
		time.Sleep(10 * time.Second)
		require.LessOrEqual(t, h.messages()-before, 22)
		stopA()
		stopB()
		time.Sleep(time.Second)
	})
}

func TestALimitOfOneIsNotRefusedToEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		cfg := Config{Budget: Budget{Total: rate(t, "1/s")}}
		ls := make([]*Limiter, 4)
		for i := range ls {
			ls[i] = limiter(t, cfg, h)
			defer run(t, ls[i])()
		}
		time.Sleep(time.Second)
		admitted := 0
		for range 100 {
			admitted += burst(ls[0], 1)
			time.Sleep(50 * time.Millisecond)
		}
		require.GreaterOrEqual(t, admitted, 3)
		require.LessOrEqual(t, admitted, 5)
	})
}

func TestWhatIsHeardHasBounds(t *testing.T) {
	l := limiter(t, Config{Budget: Budget{Total: rate(t, "100/s")}}, newHub())
	f := frame{note: noteHere}
	for i := range 2 * maxPeers {
		f.from = uint64(i + 1)
		l.hear(f.append(nil))
	}
	require.Len(t, l.peers.known, maxPeers)
	f.from = 1
	for i := range 2 * maxHeard / maxTold {
		f.entries = f.entries[:0]
		for j := range maxTold {
			f.entries = append(f.entries, entry{subject: uint64(i*maxTold + j + 1)})
		}
		l.hear(f.append(nil))
	}
	require.Len(t, l.peers.known[1].heard, maxHeard)
	l.hear([]byte("what?"))
	require.InDelta(t, 1, testutil.ToFloat64(l.m.garbled), 0)
}

// burst asks n times at once, and returns how often the answer was yes.
func burst(l *Limiter, n int) (admitted int) {
	for range n {
		if _, ok := l.Allow(client, "", "eth_call", 1); ok {
			admitted++
		}
	}
	return admitted
}

func FuzzDecodeFrame(f *testing.F) {
	for _, s := range []frame{{from: 1, note: noteHere}, {from: 2, note: noteGone, entries: []entry{{1, 2, 3, 4}}}} {
		f.Add(s.append(nil))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeFrame(b)
		if err != nil {
			require.ErrorIs(t, err, errFrame)
			return
		}
		require.Equal(t, b, m.append(nil))
	})
}
