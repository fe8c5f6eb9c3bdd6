package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzParseSince: a time or a duration never means the future of a duration, and nothing panics.
func FuzzParseSince(f *testing.F) {
	for _, s := range []string{"", "1h", "-1h", "2026-11-20T21:00:00Z", "2026-11-20T21:00:00.5+01:00", "yesterday", "1e9h", "9223372036854775807ns", "-9223372036854775808ns"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 20, 21, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		at, err := parseSince(s, now)
		if err != nil {
			require.ErrorContains(t, err, "since:")
			return
		}
		if _, isDuration := time.ParseDuration(s); isDuration == nil {
			require.False(t, at.After(now), s)
		}
	})
}

// FuzzPredecessorEnvironment feeds the program one variable of a predecessor: a value is taken or
// refused with the variable's name, whatever it is.
func FuzzPredecessorEnvironment(f *testing.F) {
	names := []string{"BUILDER_ENDPOINT"}
	for _, a := range aliases() {
		names = append(names, a.Env)
	}
	for i := range names {
		for _, v := range []string{"true", "0", "-1", "debug", "127.0.0.1:1", "99999999999999999999", "\x00", "a,b"} {
			f.Add(uint8(i), v)
		}
	}
	f.Fuzz(func(t *testing.T, i uint8, value string) {
		name := names[int(i)%len(names)]
		a := &app{environ: []string{name + "=" + value}, stdout: io.Discard, stderr: io.Discard}
		p, err := a.parse([]string{"node"})
		if err != nil {
			return
		}
		for _, s := range p.effective() {
			if s.From == name {
				require.Equal(t, "env", s.Source)
				require.NotEmpty(t, value)
			}
		}
	})
}

// FuzzPrintable: what a builder or a server says never steers a terminal.
func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"plain", "a\x1b[2J", "line\nline", "\x7f", "é", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		require.False(t, strings.ContainsFunc(printable(s), func(r rune) bool { return r < ' ' || r == 0x7f }))
	})
}
