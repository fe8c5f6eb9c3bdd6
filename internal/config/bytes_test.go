package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/config"
)

func TestParseBytesKnowsBinaryAndDecimalUnits(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "4096": 4096, "10MiB": 10 << 20, "512MB": 512e6, "1.5GiB": 3 << 29, "2k": 2048, " 7 KiB ": 7168, "1tib": 1 << 40, "9b": 9,
	} {
		got, err := config.ParseBytes(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{"", "MiB", "-1", "-1.5MiB", "1e3", "0x10", "inf", "nan", "9999999TiB", "1_000", "10 XB"} {
		_, err := config.ParseBytes(in)
		require.Error(t, err, in)
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"10MiB", "512MB", "1.5GiB", "4096", "", "b", "9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := config.ParseBytes(s)
		if err != nil {
			return
		}
		require.GreaterOrEqual(t, n, int64(0))
		back, err := config.ParseBytes(config.FormatBytes(n))
		require.NoError(t, err)
		require.Equal(t, n, back)
	})
}
