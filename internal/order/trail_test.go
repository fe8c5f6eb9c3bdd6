package order

import (
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

func sampleTrail(a AcceptID) Trail {
	t := Trail{
		InSequence: 1 << 40, InStoredAt: a.Received().Add(180 * time.Microsecond),
		DecidedAt: a.Received().Add(2 * time.Millisecond), Attempts: 2,
	}
	t.Mark(common.Hash{1, 15: 2, 16: 3})
	t.Mark(common.Hash{4})
	return t
}

func TestTrailComesBackAsItWas(t *testing.T) {
	a := NewAcceptID(time.UnixMicro(1_790_000_000_123_456))
	want := sampleTrail(a)
	got, err := DecodeTrail(want.AppendTo(nil, a), a)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(want, got))
	require.Equal(t, []byte{1, 15: 2, 16: 4, 31: 0}, got.Marks)

	bare := Trail{}
	got, err = DecodeTrail(bare.AppendTo(nil, a), a)
	require.NoError(t, err)
	require.True(t, got.InStoredAt.IsZero())
	require.True(t, got.DecidedAt.IsZero())
	require.Empty(t, got.Marks)
}

func TestTrailOfAClockThatWentBackIsNotBeforeItsOrder(t *testing.T) {
	a := NewAcceptID(time.UnixMicro(1_790_000_000_123_456))
	early := Trail{InStoredAt: a.Received().Add(-time.Second)}
	got, err := DecodeTrail(early.AppendTo(nil, a), a)
	require.NoError(t, err)
	require.True(t, got.InStoredAt.Equal(a.Received()))
}

func TestTrailNamesABoundedNumberOfTransactions(t *testing.T) {
	var trail Trail
	for range 2 * maxMarks {
		trail.Mark(common.Hash{1})
	}
	require.Len(t, trail.Marks, maxMarks*MarkSize)
	_, err := DecodeTrail(trail.AppendTo(nil, AcceptID{}), AcceptID{})
	require.NoError(t, err)
}

func TestUnreadableTrailsAreErrors(t *testing.T) {
	var a AcceptID
	sample := sampleTrail(a)
	good := sample.AppendTo(nil, a)
	long := append([]byte{1, 0, 0, 0, 0}, make([]byte, (maxMarks+1)*MarkSize)...)
	for _, b := range [][]byte{
		nil,
		{0},
		{2, 0, 0, 0, 0},
		{1},
		{1, 0, 0},
		good[:len(good)-1],
		append(good, 0),
		long,
		{1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0},
	} {
		_, err := DecodeTrail(b, a)
		require.ErrorIs(t, err, ErrTrail, "%x", b[:min(len(b), 32)])
	}
}

func FuzzDecodeTrail(f *testing.F) {
	a := NewAcceptID(time.UnixMicro(1_790_000_000_123_456))
	sample := sampleTrail(a)
	f.Add(sample.AppendTo(nil, a), a[:])
	f.Add([]byte{1, 0, 0, 0, 0}, a[:])
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, b, accept []byte) {
		var a AcceptID
		copy(a[:], accept)
		// Accept ids of our doors have times that fit a time.Time.
		a[0] = 0
		trail, err := DecodeTrail(b, a)
		if err != nil {
			require.ErrorIs(t, err, ErrTrail)
			return
		}
		again, err := DecodeTrail(trail.AppendTo(nil, a), a)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(trail, again))
	})
}

func BenchmarkTrailOfThreeTransactions(b *testing.B) {
	a := NewAcceptID(time.Now())
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		trail := Trail{InSequence: 1 << 20, InStoredAt: a.Received(), DecidedAt: a.Received(), Attempts: 1, Marks: make([]byte, 0, 3*MarkSize)}
		for range 3 {
			trail.Mark(common.Hash{1})
		}
		buf = trail.AppendTo(buf[:0], a)
	}
}
