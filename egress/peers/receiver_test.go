package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/order"
	"millrace/subjects"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testUUID = "4749af2a-1b99-45f2-a9bf-827cc0840964"
	maxAge   = 36 * time.Second
)

var (
	signer  = common.HexToAddress("0x9349365494be4f6205e5d44bdc7ec7dcd134becf")
	arrival = time.UnixMicro(1_730_000_000_000_123)
)

// shelf is OK.
type shelf struct {
	mu     sync.Mutex
	orders []*order.Order
	fail   func(*order.Order) error
	known  map[string]bool
}

func (s *shelf) PublishOK(_ context.Context, o *order.Order) (order.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(o); err != nil {
			return order.Receipt{}, err
		}
	}
	if s.known == nil {
		s.known = map[string]bool{}
	}
	id := subjects.OKMsgID(o)
	if s.known[id] {
		return order.Receipt{Duplicate: true}, nil
	}
	s.known[id] = true
	s.orders = append(s.orders, o)
	return order.Receipt{Sequence: uint64(len(s.orders))}, nil
}

type still struct{ at time.Time }

func (s *still) Now() time.Time { return s.at }

type rules func(raw []byte) error

func (r rules) Check(raw []byte, _ order.Kind, _ time.Time) (order.TxInfo, error) {
	return order.TxInfo{Hash: order.TransactionHash(raw)}, r(raw)
}

type rig struct {
	*Receiver
	shelf *shelf
	clock *still
	log   *bytes.Buffer
}

func newRig(tb testing.TB, change ...func(*ReceiverConfig, *Ports)) *rig {
	tb.Helper()
	r := &rig{shelf: &shelf{}, clock: &still{arrival}, log: new(bytes.Buffer)}
	cfg := ReceiverConfig{MaxAge: maxAge, MaxBody: 1 << 20}
	ports := Ports{Publisher: r.shelf, Clock: r.clock}
	for _, f := range change {
		f(&cfg, &ports)
	}
	var err error
	r.Receiver, err = NewReceiver(cfg, ports, slog.New(slog.NewTextHandler(r.log, nil)), prometheus.NewRegistry())
	require.NoError(tb, err)
	return r
}

// last is the order that was stored last.
func (r *rig) last(tb testing.TB) *order.Order {
	tb.Helper()
	require.NotEmpty(tb, r.shelf.orders)
	return r.shelf.orders[len(r.shelf.orders)-1]
}

func request(method, params string) []byte {
	return fmt.Appendf(nil, `{"id":1,"jsonrpc":"2.0","method":%q,"params":[%s]}`, method, params)
}

// bundle is the builder-ready form that an honest peer sends, and the order that it is there.
func bundle(tb testing.TB, params string) ([]byte, *order.Order) {
	tb.Helper()
	sub, err := order.Decode(order.MethodSendBundle, []byte("["+params+"]"), order.Limits{})
	require.NoError(tb, err)
	o := &order.Order{
		Accept: order.NewAcceptID(arrival.Add(-time.Second)), Method: sub.Method, Kind: sub.Kind, Priority: order.PriorityMedium,
		Signer: signer, Replacement: sub.Replacement, Nonce: 42, ReceivedAt: arrival.Add(-time.Second), TargetBlock: sub.TargetBlock,
		Deadline: arrival.Add(35 * time.Second), NonceDefaulted: sub.Nonce == nil,
	}
	o.Hash, err = sub.PublicHash(o.Nonce)
	require.NoError(tb, err)
	o.ID, o.Key = sub.Identify(signer, o.Nonce, o.NonceDefaulted)
	body, err := sub.AppendBuilderBody(nil, o)
	require.NoError(tb, err)
	return body, o
}

func incoming(body []byte, claims *order.Order) order.Incoming {
	return order.Incoming{Peer: "alice", Order: claims, Body: body, Key: "OK_HIGH 7", ArrivedAt: arrival, SentAt: arrival.Add(-50 * time.Millisecond)}
}

func TestAnHonestPeersOrderIsTheSameHere(t *testing.T) {
	r := newRig(t)
	body, claims := bundle(t, `{"txs":["0x01"],"blockNumber":"0x10","replacementUuid":"`+testUUID+`","x":[1]}`)
	require.NoError(t, r.Receive(t.Context(), incoming(body, claims)))
	o := r.last(t)
	require.Equal(t, string(body), string(o.Body), "byte for byte")
	require.NotSame(t, &body[0], &o.Body[0])
	require.Equal(t, "alice", o.Origin)
	require.Equal(t, claims.ID, o.ID)
	require.Equal(t, claims.Hash, o.Hash)
	require.Equal(t, signer, o.Signer)
	require.Equal(t, uint64(42), o.Nonce)
	require.False(t, o.NonceDefaulted, "a nonce in a body is the sender's, whatever the peer says")
	require.Equal(t, uint64(16), o.TargetBlock)
	require.Equal(t, order.PriorityMedium, o.Priority)
	require.Equal(t, arrival, o.ReceivedAt)
	require.Equal(t, arrival.Add(35*time.Second), o.Deadline, "it is one second old")
	require.Empty(t, o.Ingress)
	require.Empty(t, o.Signature)
	require.InDelta(t, 1, testutil.ToFloat64(r.metrics.received.WithLabelValues("alice", "medium")), 0)
	require.InDelta(t, len(body), testutil.ToFloat64(r.metrics.bytes.WithLabelValues("alice")), 0)
}

func TestAPeersClaimsNameNothing(t *testing.T) {
	r := newRig(t)
	body, honest := bundle(t, `{"txs":["0x01"],"blockNumber":"0x10","replacementUuid":"`+testUUID+`"}`)
	lies := order.Order{
		Accept: order.AcceptID{1}, ID: order.ID{1}, Key: order.ID{2}, Hash: common.Hash{3}, Signer: common.Address{4},
		Method: order.MethodSendRawTransaction, Kind: order.KindCancel, Origin: "bob", TargetBlock: 1, Replacement: order.UUID{5},
		Nonce: 99, NonceDefaulted: true, Ingress: "x", Signature: "x", Batch: "x", Traceparent: "x",
	}
	require.NoError(t, r.Receive(t.Context(), incoming(body, nil)))
	want := *r.last(t)
	in := incoming(body, &lies)
	in.Key = "other"
	require.NoError(t, r.Receive(t.Context(), in))
	got := *r.last(t)
	require.NotEqual(t, want.Accept, got.Accept)
	got.Accept = want.Accept
	require.Equal(t, want, got)
	require.Equal(t, honest.ID, got.ID)

	// A hash in the body is ours to make, too.
	var call map[string]any
	require.NoError(t, json.Unmarshal(body, &call))
	call["params"].([]any)[0].(map[string]any)["bundleHash"] = common.Hash{7}.Hex()
	forged, err := json.Marshal(call)
	require.NoError(t, err)
	in = incoming(forged, nil)
	in.Key = "third"
	require.NoError(t, r.Receive(t.Context(), in))
	require.Equal(t, want.Hash, r.last(t).Hash)
	require.NotContains(t, string(r.last(t).Body), common.Hash{7}.Hex())
}

func TestARedeliveryIsStoredOnce(t *testing.T) {
	body, claims := bundle(t, `{"txs":["0x01"],"replacementUuid":"`+testUUID+`"}`)
	for name, in := range map[string]order.Incoming{
		"bundle": incoming(body, claims),
		"cancel": incoming(request("eth_cancelBundle", `{"replacementUuid":"`+testUUID+`"}`), nil),
	} {
		r := newRig(t)
		require.NoError(t, r.Receive(t.Context(), in), name)
		in.Redelivered = true
		require.NoError(t, r.Receive(t.Context(), in), name)
		again := newRig(t) // after a crash
		again.shelf = r.shelf
		again.ports.Publisher = r.shelf
		require.NoError(t, again.Receive(t.Context(), in), name)
		require.Len(t, r.shelf.orders, 1, name)
		require.InDelta(t, 1, testutil.ToFloat64(r.metrics.repeats.WithLabelValues("alice")), 0)

		for _, change := range []func(*order.Incoming){
			func(in *order.Incoming) { in.Key = "OK_HIGH 8" },
			func(in *order.Incoming) { in.Peer = "bob" },
			func(in *order.Incoming) { in.ArrivedAt = in.ArrivedAt.Add(time.Microsecond) },
		} {
			other := in
			change(&other)
			require.NoError(t, r.Receive(t.Context(), other))
			require.NotEqual(t, r.shelf.orders[0].Accept, r.last(t).Accept)
		}
		require.Len(t, r.shelf.orders, 4)
		require.Equal(t, arrival, r.shelf.orders[0].Accept.Received())
	}
}

func TestAPeerCantRaiseAClass(t *testing.T) {
	large := `"` + strings.Repeat("00", order.MaxHighSize/2) + `"`
	for _, tc := range []struct {
		params  string
		claimed order.Priority
		want    order.Priority
	}{
		{`{"txs":["0x01"]}`, order.PriorityHigh, order.PriorityMedium},
		{`{"txs":["0x01"],"replacementUuid":"` + testUUID + `"}`, order.PriorityHigh, order.PriorityHigh},
		{`{"txs":["0x01"],"replacementUuid":"` + testUUID + `"}`, order.PriorityLow, order.PriorityLow},
		{`{"txs":["0x01"],"replacementUuid":"` + testUUID + `"}`, 0, order.PriorityHigh},
		{`{"txs":["0x01"],"replacementUuid":"` + testUUID + `"}`, 77, order.PriorityHigh},
		{`{"txs":["0x01"],"replacementUuid":"` + testUUID + `","x":` + large + `}`, order.PriorityHigh, order.PriorityMedium},
		{`{"txs":["0x03"],"replacementUuid":"` + testUUID + `"}`, order.PriorityHigh, order.PriorityLow},
	} {
		r := newRig(t)
		body, claims := bundle(t, tc.params)
		claims.Priority = tc.claimed
		require.NoError(t, r.Receive(t.Context(), incoming(body, claims)))
		require.Equal(t, tc.want, r.last(t).Priority, "%.80s", tc.params)
	}
}

func TestAnOrdersLifeIsNeverLongerThanOurs(t *testing.T) {
	body, honest := bundle(t, `{"txs":["0x01"]}`)
	for name, tc := range map[string]struct {
		received, deadline, sent time.Duration // after arrival
		want                     time.Duration
	}{
		"fresh":                       {-time.Second, 35 * time.Second, -time.Second / 10, 35 * time.Second},
		"a life longer than ours":     {-time.Second, time.Hour, -time.Second / 10, 35 * time.Second},
		"a shorter life":              {-time.Second, 4 * time.Second, -time.Second / 10, 4 * time.Second},
		"from the future":             {time.Hour, 2 * time.Hour, time.Hour, maxAge},
		"a clock ahead by a minute":   {59 * time.Second, 95 * time.Second, time.Minute, 35 * time.Second},
		"no time of sending":          {-2 * time.Second, 34 * time.Second, 0, 34 * time.Second},
		"born after it was sent":      {time.Second, 37 * time.Second, -time.Second / 10, maxAge},
		"nothing but a time of birth": {-3 * time.Second, 0, 0, 33 * time.Second},
	} {
		r := newRig(t)
		claims := *honest
		claims.ReceivedAt, claims.Deadline = arrival.Add(tc.received), time.Time{}
		if tc.deadline != 0 {
			claims.Deadline = arrival.Add(tc.deadline)
		}
		in := incoming(body, &claims)
		if in.SentAt = arrival.Add(tc.sent); tc.sent == 0 {
			in.SentAt = time.Time{}
		}
		require.NoError(t, r.Receive(t.Context(), in), name)
		require.Equal(t, tc.want, r.last(t).Deadline.Sub(arrival), name)
	}
}

func TestWhatIsTooOldIsDroppedAndKeptAsARange(t *testing.T) {
	r := newRig(t)
	body, claims := bundle(t, `{"txs":["0x01"]}`)
	old := *claims
	old.ReceivedAt, old.Deadline = arrival.Add(-40*time.Second), arrival.Add(-4*time.Second)
	send := func(key string, claims *order.Order) error {
		in := incoming(body, claims)
		in.Key = key
		return r.Receive(t.Context(), in)
	}
	for i := range 3 {
		r.clock.at = r.clock.at.Add(time.Second)
		err := send(fmt.Sprint(i+1), &old)
		require.Equal(t, order.CodeExpired, order.AsReason(err).Code)
	}
	require.NoError(t, send("4", claims))
	require.Error(t, send("5", &old))
	r.clock.at = r.clock.at.Add(20 * time.Second)
	require.Error(t, send("9", &old))
	missed := r.Missed()
	require.Len(t, missed, 3)
	require.Equal(t, Range{
		Peer: "alice", Drop: DropTooOld, Class: order.PriorityMedium, First: "1", Last: "3",
		Since: arrival.Add(time.Second), Until: arrival.Add(3 * time.Second), Count: 3,
	}, missed[0])
	require.Equal(t, "5", missed[1].First)
	require.Equal(t, "9", missed[2].Last)
	require.InDelta(t, 5, testutil.ToFloat64(r.metrics.dropped.WithLabelValues("alice", "too_old")), 0)
	require.Len(t, r.shelf.orders, 1)
}

func TestRangesAreBounded(t *testing.T) {
	var rs ranges
	for i := range 3 * keptRanges {
		rs.add(order.PriorityHigh, DropTooOld, fmt.Sprint(i), arrival)
		rs.end(order.PriorityHigh)
		rs.add(order.PriorityLow, DropMalformed, fmt.Sprint(i), arrival)
	}
	all := rs.list()
	require.Len(t, all, keptRanges)
	require.Equal(t, "191", all[len(all)-1].First)
	require.Equal(t, all[len(all)-1].Last, all[len(all)-1].First)
}

func TestGarbageIsDroppedForItsReason(t *testing.T) {
	r := newRig(t)
	for _, tc := range []struct {
		body   string
		reason Drop
	}{
		{``, DropMalformed},
		{`{}`, DropMalformed},
		{`[]`, DropMalformed},
		{`[` + string(request("eth_sendRawTransaction", `"0x01"`)) + `]`, DropMalformed},
		{string(request("eth_sendPrivateTransaction", `{"tx":"0x01"}`)), DropMalformed},
		{string(request("eth_chainId", ``)), DropMalformed},
		{string(request("eth_sendBundle", `{"txs":["0x01"]}`)), DropMalformed},
		{string(request("bid_subsidiseBlock", `1000`)), DropForbidden},
		{string(request("eth_sendBundle", `{"txs":["0x01"],"version":"v2","maxTimestamp":1729999999}`)), DropExpired},
		{strings.Repeat(" ", 2<<20), DropOversized},
	} {
		before := testutil.ToFloat64(r.metrics.dropped.WithLabelValues("alice", tc.reason.String()))
		err := r.Receive(t.Context(), incoming([]byte(tc.body), nil))
		require.NotNil(t, order.AsReason(err), "%.80s", tc.body)
		require.InDelta(t, before+1, testutil.ToFloat64(r.metrics.dropped.WithLabelValues("alice", tc.reason.String())), 0, "%.80s", tc.body)
	}
	require.Empty(t, r.shelf.orders)
	require.Equal(t, 1, strings.Count(r.log.String(), "orders of a peer are dropped"), "once a minute")
	in := incoming(nil, nil)
	in.Peer = "bob"
	require.Error(t, r.Receive(t.Context(), in))
	require.Equal(t, 2, strings.Count(r.log.String(), "orders of a peer are dropped"), "and peer")
}

func TestASubsidyIsAnOrderFromFlashbots(t *testing.T) {
	r := newRig(t)
	in := incoming(request("bid_subsidiseBlock", `1000`), nil)
	in.Peer, in.Rights = "flashbots", order.RightsAll
	require.NoError(t, r.Receive(t.Context(), in))
	o := r.last(t)
	require.Equal(t, order.KindSubsidy, o.Kind)
	require.Equal(t, order.PriorityHigh, o.Priority)
	require.Equal(t, uint64(1000), o.TargetBlock)
	require.Equal(t, arrival.Add(maxAge-50*time.Millisecond), o.Deadline)
	require.Equal(t, string(in.Body), string(o.Body))
	require.Equal(t, "orders.ok.peer.high.00", subjects.OK(o.Origin, o.Priority, 0), "for our builders, and no peer")
}

func TestTheSignerOfARawTransactionIsWhoThePeerClaims(t *testing.T) {
	r := newRig(t)
	body := request("eth_sendRawTransaction", `"0x01"`)
	require.NoError(t, r.Receive(t.Context(), incoming(body, nil)))
	none := *r.last(t)
	require.Zero(t, none.Signer)
	require.Equal(t, order.ID(order.TransactionHash([]byte{1})), none.ID)
	in := incoming(body, &order.Order{Signer: signer})
	in.Key = "2"
	require.NoError(t, r.Receive(t.Context(), in))
	require.Equal(t, signer, r.last(t).Signer)
	require.Equal(t, none.ID, r.last(t).ID)
	require.Equal(t, none.Key, r.last(t).Key)
}

// An eth_cancelBundle has no nonce in its form, and must not be older than what it cancels.
func TestACancelComesBehindWhatItCancels(t *testing.T) {
	r := newRig(t)
	ahead := uint64(arrival.Add(time.Minute).UnixMicro()) // the peer's clock
	body := request("eth_sendBundle", fmt.Sprintf(`{"txs":["0x01"],"version":"v2","replacementUuid":%q,"replacementNonce":%d}`, testUUID, ahead))
	require.NoError(t, r.Receive(t.Context(), incoming(body, nil)))
	require.Equal(t, ahead, r.last(t).Nonce)
	in := incoming(request("eth_cancelBundle", `{"replacementUuid":"`+testUUID+`"}`), nil)
	in.Key = "2"
	require.NoError(t, r.Receive(t.Context(), in))
	require.Equal(t, ahead+1, r.last(t).Nonce)
	require.True(t, r.last(t).NonceDefaulted)
	in.Key, in.Peer = "3", "bob"
	require.NoError(t, r.Receive(t.Context(), in))
	require.Equal(t, uint64(arrival.UnixMicro()), r.last(t).Nonce, "each peer has its own")
	in.Key, in.Order = "4", &order.Order{Nonce: 7, Replacement: r.last(t).Replacement}
	require.NoError(t, r.Receive(t.Context(), in))
	require.Equal(t, uint64(7), r.last(t).Nonce, "the peer's door gave it one")
	require.JSONEq(t, `{"id":1,"jsonrpc":"2.0","method":"eth_cancelBundle","params":[{"replacementUuid":"`+testUUID+`"}]}`, string(r.last(t).Body))
}

func TestNoncesAreForgotten(t *testing.T) {
	n := nonces{span: time.Minute}
	k := nonceKey{signer: signer}
	n.raise(k, 1<<62, order.AcceptID{1}, arrival)
	require.Equal(t, uint64(1<<62+1), n.next(k, order.AcceptID{2}, arrival.Add(50*time.Second)))
	at := arrival.Add(3 * time.Minute)
	n.next(nonceKey{}, order.AcceptID{3}, arrival.Add(90*time.Second))
	require.Equal(t, uint64(at.UnixMicro()), n.next(k, order.AcceptID{4}, at))
	for i := range 3 * maxNonces {
		n.raise(nonceKey{uuid: order.UUID{byte(i), byte(i >> 8), byte(i >> 16)}}, 1, order.AcceptID{}, at)
	}
	require.LessOrEqual(t, len(n.now)+len(n.old), 2*maxNonces)
	n.raise(k, ^uint64(0), order.AcceptID{5}, at)
	require.Equal(t, ^uint64(0), n.next(k, order.AcceptID{6}, at), "there is no higher one")
}

func TestWhatIsNotStoredIsAskedForAgain(t *testing.T) {
	r := newRig(t)
	body, claims := bundle(t, `{"txs":["0x01"]}`)
	r.shelf.fail = func(*order.Order) error { return order.ErrUnavailable }
	err := r.Receive(t.Context(), incoming(body, claims))
	require.ErrorIs(t, err, order.ErrUnavailable)
	require.Nil(t, order.AsReason(err))
	require.Empty(t, r.Missed())

	r.shelf.fail = func(*order.Order) error { r.clock.at = arrival.Add(time.Minute); return order.ErrFull }
	err = r.Receive(t.Context(), incoming(body, claims))
	require.NotNil(t, order.AsReason(err), "its time is over")
	require.Equal(t, DropTooOld, r.Missed()[0].Drop)

	r.clock.at = arrival
	ctx, cancel := context.WithCancel(t.Context())
	r.shelf.fail = func(*order.Order) error { cancel(); return ctx.Err() }
	err = r.Receive(ctx, incoming(body, claims))
	require.ErrorIs(t, err, context.Canceled)
	require.Nil(t, order.AsReason(err))
}

func TestTransactionsAreCheckedWhenThatIsWanted(t *testing.T) {
	r := newRig(t, func(c *ReceiverConfig, p *Ports) {
		c.Revalidate = true
		p.Rules = rules(func(raw []byte) error {
			if raw[0] == 2 {
				return order.Refuse(order.CodeChainID, "wrong chain")
			}
			return nil
		})
	})
	body, claims := bundle(t, `{"txs":["0x01","0x02"]}`)
	err := r.Receive(t.Context(), incoming(body, claims))
	require.EqualError(t, err, "tx 1: wrong chain")
	require.Equal(t, order.CodeChainID, order.AsReason(err).Code)
	require.Equal(t, DropInvalid, r.Missed()[0].Drop)
	body, claims = bundle(t, `{"txs":["0x01","0x04"]}`)
	require.NoError(t, r.Receive(t.Context(), incoming(body, claims)))
	require.Len(t, r.last(t).Trail.Marks, 2*order.MarkSize)
	require.Nil(t, newRig(t).ports.Rules)
}

func TestOnePeerCantFillTheStore(t *testing.T) {
	body, claims := bundle(t, `{"txs":["0x01"],"x":"`+strings.Repeat("0", 1<<19)+`"}`)
	r := newRig(t, func(c *ReceiverConfig, _ *Ports) { c.MaxBytes = 3 << 19 })
	send := func(peer string) error {
		in := incoming(body, claims)
		in.Peer, in.Key = peer, fmt.Sprint(len(r.shelf.orders))
		return r.Receive(t.Context(), in)
	}
	require.NoError(t, send("alice"))
	require.NoError(t, send("alice"))
	require.NotNil(t, order.AsReason(send("alice")))
	require.NoError(t, send("bob"), "another has a budget of its own")
	require.Equal(t, DropOverBudget, r.Missed()[0].Drop)
	r.clock.at = arrival.Add(20 * time.Second)
	require.NoError(t, send("alice"))
}

func TestForgettingAPeerForgetsItsMetrics(t *testing.T) {
	r := newRig(t)
	require.Error(t, r.Receive(t.Context(), incoming(nil, nil)))
	require.Positive(t, testutil.CollectAndCount(r.metrics.dropped))
	r.Forget("alice")
	require.Zero(t, testutil.CollectAndCount(r.metrics.dropped))
	require.Zero(t, testutil.CollectAndCount(r.metrics.latency))
	require.Empty(t, r.Missed())
}

func TestAReceiverNamesWhatIsMissing(t *testing.T) {
	_, err := NewReceiver(ReceiverConfig{Revalidate: true, MaxBytes: 1, Limits: order.Limits{MaxTxs: -1}}, Ports{}, nil, prometheus.NewRegistry())
	require.ErrorIs(t, err, ErrConfig)
	for _, text := range []string{"max_age", "max_body", "max_bytes", "max_txs", "publisher", "clock", "rules"} {
		require.ErrorContains(t, err, text)
	}
}

func TestManyReceiveAtOnce(t *testing.T) {
	r := newRig(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 50 {
				in := incoming(request("eth_cancelBundle", `{"replacementUuid":"`+testUUID+`"}`), nil)
				in.Key = fmt.Sprint(i, n)
				in.Peer = fmt.Sprint("peer", i%3)
				if err := r.Receive(context.Background(), in); err != nil {
					panic(err)
				}
			}
		})
	}
	all.Wait()
	require.Len(t, r.shelf.orders, 400)
	seen := map[string]bool{}
	for _, o := range r.shelf.orders {
		k := fmt.Sprint(o.Origin, o.Nonce)
		require.False(t, seen[k], "two cancels with one nonce")
		seen[k] = true
	}
}

func FuzzReceive(f *testing.F) {
	good, _ := bundle(f, `{"txs":["0x01"],"replacementUuid":"`+testUUID+`","x":1}`)
	f.Add(good, int64(0), int64(0), uint8(1))
	f.Add(request("mev_sendBundle", `{"body":[{"tx":"0x01"}],"replacementUuid":"`+testUUID+`","metadata":{"replacementNonce":1}}`), int64(-1e9), int64(1e18), uint8(9))
	f.Add(request("bid_subsidiseBlock", `1`), int64(1e9), int64(-1), uint8(0))
	f.Add(request("eth_sendRawTransaction", `"0x03c4c28080"`), int64(5), int64(5), uint8(3))
	r := newRig(f)
	f.Fuzz(func(t *testing.T, body []byte, received, life int64, class uint8) {
		in := incoming(body, &order.Order{ReceivedAt: arrival.Add(time.Duration(received)), Priority: order.Priority(class)})
		in.Order.Deadline = in.Order.ReceivedAt.Add(time.Duration(life))
		in.Rights = order.Rights(class % 3)
		before := len(r.shelf.orders)
		r.shelf.known = nil
		err := r.Receive(t.Context(), in)
		if err != nil {
			require.NotNil(t, order.AsReason(err), "what can't be stored is dropped, and stops nothing")
			return
		}
		o := r.shelf.orders[before]
		r.shelf.orders = nil
		require.True(t, o.Priority.Valid())
		require.False(t, o.Deadline.After(arrival.Add(maxAge)))
		require.True(t, json.Valid(o.Body))
		again, err := read(o.Body, order.Limits{})
		require.NoError(t, err)
		require.Equal(t, o.Kind, again.Kind)
		h := subjects.EncodeOrder(o)
		back, err := subjects.DecodeOrder(h, o.Body)
		require.NoError(t, err)
		require.Equal(t, o.ID, back.ID)
	})
}

func BenchmarkReceive(b *testing.B) {
	for name, size := range map[string]int{"3kB": 3 << 10, "19kB": 19 << 10} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b)
			body, claims := bundle(b, `{"txs":["0x`+strings.Repeat("01", size/6)+`","0x`+strings.Repeat("02", size/6)+`","0x`+strings.Repeat("04", size/6)+`"],"blockNumber":"0x10"}`)
			errStop := errors.New("not kept")
			r.shelf.fail = func(*order.Order) error { return errStop }
			in := incoming(body, claims)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Receive(b.Context(), in); !errors.Is(err, errStop) {
					b.Fatal(err)
				}
			}
		})
	}
}
