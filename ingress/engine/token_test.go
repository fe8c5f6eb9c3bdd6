package engine

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// alive is how long a token is handed out from now on.
func alive(t *testing.T, l *liveToken) (life time.Duration) {
	t.Helper()
	for began := time.Now(); ; life = time.Since(began) {
		if _, ok := l.current(); !ok {
			return life
		}
		require.Less(t, life, time.Hour)
		<-time.After(time.Second)
	}
}

func TestI10AForwardedTokenIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l liveToken
		first := secretOf(1).Authorization(time.Now())
		l.set(first)
		<-time.After(30 * time.Second)
		l.set(first)
		_, ok := l.current()
		require.True(t, ok)
		<-time.After(25 * time.Second)
		_, ok = l.current()
		require.False(t, ok, "55 s after its first use")
		synctest.Wait()
		require.Empty(t, l.authorization, "and out of memory")
		l.set(secretOf(1).Authorization(time.Now()))
		<-time.After(54 * time.Second)
		last := secretOf(1).Authorization(time.Now())
		l.set(last)
		<-time.After(54 * time.Second)
		got, ok := l.current()
		require.True(t, ok)
		require.Equal(t, last, got)
		l.clear()
		_, ok = l.current()
		require.False(t, ok)
	})
}

func TestAForwardedTokensLifeDoesNotBeginAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		age, want time.Duration
	}{
		"issued now":        {0, 55 * time.Second},
		"issued before":     {40 * time.Second, 15 * time.Second},
		"issued too long":   {56 * time.Second, 0},
		"issued in a while": {-30 * time.Second, 55 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l liveToken
				defer l.clear()
				old := secretOf(1).Authorization(time.Now().Add(-tc.age))
				l.set(old)
				require.Equal(t, tc.want, alive(t, &l).Round(time.Second))
				l.set(old) // its caller shows it again, and the primary takes it still
				require.Zero(t, alive(t, &l))
			})
		})
	}
}

func TestATokenThatComesAgainAfterAnotherIsNoYounger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l liveToken
		defer l.clear()
		a, b := secretOf(1).Authorization(time.Now().Add(20*time.Second)), secretOf(1).Authorization(time.Now())
		l.set(a)
		<-time.After(30 * time.Second)
		l.set(b)
		kept, ok := l.current()
		require.True(t, ok)
		require.Equal(t, b, kept, "neither lives longer")
		for range 3 {
			l.set(b)
			l.set(a)
		}
		require.Equal(t, 25*time.Second, alive(t, &l).Round(time.Second))
		l.set(a)
		l.set(b)
		_, ok = l.current()
		require.False(t, ok)
		c := secretOf(1).Authorization(time.Now())
		l.set(c)
		l.set(a)
		kept, _ = l.current()
		require.Equal(t, c, kept)
	})
}

func TestTokensThatWereSeenAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l liveToken
		defer l.clear()
		for n := range 2 * maxSeen {
			l.set(secretOf(byte(n)).Authorization(time.Now().Add(time.Duration(n/256) * time.Second)))
			<-time.After(time.Millisecond)
		}
		require.LessOrEqual(t, len(l.seen), maxSeen)
		<-time.After(seenLife)
		l.set(secretOf(3).Authorization(time.Now()))
		require.Len(t, l.seen, 1)
		for _, value := range []string{"Bearer a.b.c", fmt.Sprintf("Bearer x.%s.y", "e30")} {
			l.set(value)
		}
		require.Len(t, l.seen, 1, "nobody can tell their age")
	})
}
