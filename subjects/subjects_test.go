package subjects

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"millrace/internal/order"
)

func options() Options {
	return Options{
		MaxAge: 36 * time.Second, MaxBody: 10 << 20, InMaxBytes: 2 << 30, OKMaxBytes: 2 << 30,
		RecordMaxAge: 24 * time.Hour, RecordMaxBytes: 10 << 30,
		LedgerMaxAge: time.Hour, LedgerMaxBytes: 1 << 30, Replicas: 1, Partitions: 16,
	}
}

func drawOrder(t *rapid.T) *order.Order {
	bytes := func(name string, n int) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, name) }
	text := rapid.StringMatching(`[a-zA-Z0-9:_ -]{0,40}`)
	o := &order.Order{
		Method: order.Method(rapid.ByteRange(1, 6).Draw(t, "method")), Kind: order.Kind(rapid.ByteRange(1, 4).Draw(t, "kind")),
		Priority: order.Priority(rapid.ByteRange(1, 3).Draw(t, "priority")),
		Origin:   text.Draw(t, "origin"), Ingress: text.Draw(t, "ingress"), Signature: text.Draw(t, "signature"),
		Batch: text.Draw(t, "batch"), Traceparent: text.Draw(t, "traceparent"),
		Deadline: time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(t, "deadline")),
		Nonce:    rapid.Uint64().Draw(t, "nonce"), ShareNonce: rapid.Uint64().Draw(t, "share"),
		TargetBlock:    rapid.Uint64().Draw(t, "target"),
		NonceDefaulted: rapid.Bool().Draw(t, "defaulted"), Body: []byte("body"),
	}
	o.Accept = order.NewAcceptID(time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(t, "received")))
	o.ReceivedAt = o.Accept.Received()
	copy(o.ID[:], bytes("id", 32))
	copy(o.Key[:], bytes("key", 32))
	copy(o.Hash[:], bytes("hash", 32))
	copy(o.Signer[:], bytes("signer", 20))
	copy(o.Replacement[:], bytes("replacement", 16))
	return o
}

func TestHeadersCarryTheWholeOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOrder(t)
		back, err := DecodeOrder(EncodeOrder(o), o.Body)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(o, back); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzDecodeOrder(f *testing.F) {
	f.Add(EncodeOrder(&order.Order{Priority: order.PriorityHigh})[HeaderOrder][0], "peer")
	f.Add("", "")
	f.Add(strings.Repeat("A", headerText), "x")
	f.Add(strings.Repeat("\n", headerText), "x")
	f.Fuzz(func(t *testing.T, text, origin string) {
		h := nats.Header{HeaderOrder: {text}, HeaderOrigin: {origin}}
		o, err := DecodeOrder(h, nil)
		if err != nil {
			return
		}
		again := EncodeOrder(o)[HeaderOrder][0]
		back, err := DecodeOrder(nats.Header{HeaderOrder: {again}, HeaderOrigin: {origin}}, nil)
		if err != nil || !cmp.Equal(o, back) {
			t.Fatalf("%v: %s", err, cmp.Diff(o, back))
		}
	})
}

func TestUnreadableHeadersAreErrors(t *testing.T) {
	good := EncodeOrder(&order.Order{Priority: order.PriorityHigh})[HeaderOrder][0]
	for _, h := range []nats.Header{
		nil,
		{},
		{HeaderOrder: nil},
		{HeaderOrder: {""}},
		{HeaderOrder: {good[1:]}},
		{HeaderOrder: {good + "A"}},
		{HeaderOrder: {"/" + good[1:]}},
		{HeaderOrder: {"!" + good[1:]}},
		{HeaderOrder: {EncodeOrder(&order.Order{})[HeaderOrder][0]}}, // no class
	} {
		_, err := DecodeOrder(h, nil)
		require.ErrorIs(t, err, ErrHeader, "%v", h)
	}
}

func TestGrammar(t *testing.T) {
	require.Equal(t, "orders.in.high.07", In(order.PriorityHigh, 7))
	require.Equal(t, "orders.in.low.63", In(order.PriorityLow, MaxPartitions-1))
	require.Equal(t, "orders.ok.local.medium.00", OK("", order.PriorityMedium, 0))
	require.Equal(t, "orders.ok.peer.low.12", OK("alice", order.PriorityLow, 12))
	require.Equal(t, "orders.rejected.high", Rejected(order.PriorityHigh))
	require.Equal(t, "orders.done.builder", Done("builder"))
	require.Equal(t, "verdicts.door-1", Verdicts("door-1"))
	for _, name := range []string{"builder", "a-b_C9", strings.Repeat("x", 32)} {
		require.True(t, ValidName(name), name)
	}
	for _, name := range []string{"", "a.b", "*", ">", "a b", "ü", "$JS", strings.Repeat("x", 33)} {
		require.False(t, ValidName(name), name)
	}
}

func TestEverySubjectBelongsToExactlyOneStream(t *testing.T) {
	subjects := []string{Rejected(order.PriorityLow), Done("builder")}
	for _, p := range order.Priorities {
		for _, part := range []int{0, 9, 10, 63} {
			subjects = append(subjects, In(p, part), OK("", p, part), OK("peer", p, part))
		}
		for _, stream := range []string{StreamIn(p), StreamOK(p)} {
			void, err := Void(stream)
			require.NoError(t, err)
			require.True(t, IsVoid(void))
			subjects = append(subjects, void)
		}
	}
	for _, s := range subjects {
		var owners []string
		for _, c := range Streams(options()) {
			if slices.ContainsFunc(c.Subjects, func(filter string) bool { return matches(filter, s) }) {
				owners = append(owners, c.Name)
			}
		}
		require.Len(t, owners, 1, "%s belongs to %v", s, owners)
	}
	_, err := Void(StreamDone)
	require.Error(t, err)
	require.False(t, IsVoid(In(order.PriorityHigh, 1)))
}

func matches(filter, subject string) bool {
	f, s := strings.Split(filter, "."), strings.Split(subject, ".")
	if len(f) != len(s) {
		return false
	}
	for i := range f {
		if f[i] != "*" && f[i] != s[i] {
			return false
		}
	}
	return true
}

func TestPartitionFollowsTheOrderingKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOrder(t)
		n := rapid.IntRange(0, MaxPartitions).Draw(t, "n")
		p := Partition(o, n)
		if p < 0 || p >= max(n, 1) {
			t.Fatalf("partition %d of %d", p, n)
		}
		same := &order.Order{Signer: o.Signer, Replacement: o.Replacement}
		if Partition(same, n) != p {
			t.Fatal("another order of the same key went elsewhere")
		}
	})
}

func TestRule10MessageIDsTellOriginsAndAcceptancesApart(t *testing.T) {
	a := &order.Order{ID: order.ID{1}, Accept: order.AcceptID{1}}
	peer, again, forged := *a, *a, *a
	peer.Origin, forged.Origin = "alice", "local"
	again.Accept = order.AcceptID{2}
	ids := map[string]bool{}
	for _, o := range []*order.Order{a, &peer, &again, &forged} {
		ids[OKMsgID(o)] = true
	}
	require.Len(t, ids, 4)
	require.Equal(t, InMsgID(a), InMsgID(&again), "on IN a repeat is not stored")
}

func TestRule01NoStreamOnThePathLosesByAgeOrForWantOfRoom(t *testing.T) {
	o := options()
	var path int
	for _, c := range Streams(o) {
		require.Equal(t, jetstream.FileStorage, c.Storage, c.Name)
		require.Equal(t, jetstream.LimitsPolicy, c.Retention, c.Name)
		require.Positive(t, c.MaxBytes, c.Name)
		require.Equal(t, SchemaVersion, c.Metadata[MetaSchema], c.Name)
		if strings.HasPrefix(c.Name, "IN_") || strings.HasPrefix(c.Name, "OK_") {
			path++
			require.GreaterOrEqual(t, c.MaxAge, Backstop, c.Name)
			require.Equal(t, jetstream.DiscardNew, c.Discard, c.Name)
			window := o.MaxAge
			if strings.HasPrefix(c.Name, "OK_") {
				window += AckWaitMargin
			}
			require.Equal(t, window, c.Duplicates, c.Name)
			require.GreaterOrEqual(t, int64(c.MaxMsgSize), o.MaxBody, c.Name)
		}
	}
	require.Equal(t, 6, path)
}

func TestRule08And12ConsumersNeverGiveUp(t *testing.T) {
	w := WorkerConsumer()
	now := time.Now()
	target := TargetConsumer("x", "print", now, 36*time.Second)
	for _, c := range []jetstream.ConsumerConfig{w, target} {
		require.Equal(t, -1, c.MaxDeliver)
		require.Equal(t, -1, c.MaxAckPending)
		require.Equal(t, jetstream.AckExplicitPolicy, c.AckPolicy)
		require.False(t, c.MemoryStorage)
		require.Zero(t, c.InactiveThreshold)
		require.Empty(t, c.BackOff)
	}
	require.Equal(t, 66*time.Second, target.AckWait)
	require.Equal(t, now.Add(-36*time.Second), *target.OptStartTime)
	require.Equal(t, "print", target.Metadata[MetaFingerprint])
}

func TestATargetOfAScopeHasItsFilterInTheList(t *testing.T) {
	for _, p := range order.Priorities {
		all := TargetConsumer("x", "print", time.Now(), time.Minute)
		require.Equal(t, all, Scoped(all, order.ScopeAll, p))
		require.Equal(t, order.ScopeAll, ScopeOf(all))
		local := Scoped(all, order.ScopeLocal, p)
		require.Empty(t, local.FilterSubject, "it would change the subject on which the consumer is made")
		require.Equal(t, []string{"orders.ok.local." + p.String() + ".*"}, local.FilterSubjects)
		require.Equal(t, order.ScopeLocal, ScopeOf(local))
	}
}

func TestRule19LedgersKeepADayAndDropTheOldest(t *testing.T) {
	names := map[string]bool{}
	for _, c := range Streams(options()) {
		names[c.Name] = true
		switch c.Name {
		case StreamDone, StreamRejected:
			require.GreaterOrEqual(t, c.MaxAge, 24*time.Hour)
			require.Equal(t, jetstream.DiscardOld, c.Discard)
		case StreamRecord:
			require.Zero(t, c.Duplicates)
			require.Equal(t, jetstream.DiscardOld, c.Discard)
			for _, s := range c.Sources {
				require.True(t, names[s.Name], "%s is made before what sources it", s.Name)
			}
		}
	}
	require.True(t, names[StreamRecord])
	o := options()
	o.RecordMaxBytes = 0
	for _, c := range Streams(o) {
		require.NotEqual(t, StreamRecord, c.Name)
	}
}

func TestBucketsAreBounded(t *testing.T) {
	for _, k := range Buckets(options()) {
		require.Positive(t, k.MaxBytes, k.Bucket)
		require.Equal(t, jetstream.FileStorage, k.Storage, k.Bucket)
	}
}

func benchOrder() *order.Order {
	o := &order.Order{
		Priority: order.PriorityHigh, Ingress: "door-1", Signer: common.Address{1},
		Signature: "X-Flashbots-Signature: 0x" + strings.Repeat("a", 172),
	}
	o.Accept = order.NewAcceptID(time.Now())
	return o
}

func BenchmarkEncodeOrder(b *testing.B) {
	o := benchOrder()
	b.ReportAllocs()
	for b.Loop() {
		EncodeOrder(o)
	}
}

func BenchmarkDecodeOrder(b *testing.B) {
	h := EncodeOrder(benchOrder())
	b.ReportAllocs()
	for b.Loop() {
		_, _ = DecodeOrder(h, nil)
	}
}
