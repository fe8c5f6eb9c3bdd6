package peerlink

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestASourceIsStartedAgainWhenItsOriginCanBeAskedAndNotBefore(t *testing.T) {
	const never = -1
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, c := range map[string]struct {
		src   source
		heard time.Duration
		start bool
	}{
		"the origin came after it had asked":        {source{since: now, asked: ago(400 * time.Millisecond)}, never, true},
		"the origin came while it was to ask":       {source{since: now, asked: ago(100 * time.Millisecond)}, never, false},
		"it has asked since":                        {source{since: ago(time.Second), asked: ago(900 * time.Millisecond)}, never, false},
		"it was not answered":                       {source{since: ago(5 * time.Second), asked: ago(2 * time.Second)}, never, true},
		"it was not answered a second time":         {source{since: ago(5 * time.Second), asked: ago(2 * time.Second), tries: 1}, never, false},
		"nor a third":                               {source{since: ago(9 * time.Second), asked: ago(7 * time.Second), tries: 2}, never, true},
		"the origin is back and it has heard of it": {source{since: ago(time.Second), asked: ago(time.Hour)}, time.Millisecond, false},
		"the origin is back":                        {source{since: ago(time.Second), asked: ago(time.Hour)}, 4 * time.Second, false},
		"the origin is back, in vain":               {source{since: ago(2 * time.Second), asked: ago(time.Hour)}, 4 * time.Second, true},
		"tried for long":                            {source{since: ago(time.Hour), asked: ago(11 * time.Second), tries: 8}, never, true},
	} {
		require.Equal(t, c.start, c.src.due(c.heard, now), name)
		if c.start {
			require.Equal(t, now, c.src.asked, name)
			require.False(t, c.src.due(c.heard, now.Add(time.Second)), name)
		}
		require.Equal(t, c.heard == time.Millisecond, c.src.active, name)
	}
}
