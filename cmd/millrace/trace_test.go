package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/ledger/index"
	"millrace/internal/order"
)

// traced is an index in memory.
type traced struct {
	orders []index.Timeline
	behind bool
	err    error
}

func (x traced) Lookup(_ context.Context, q index.Query, limit int, want func(*index.Timeline) bool) (index.Answer, error) {
	a := index.Answer{Current: !x.behind}
	for i := range x.orders {
		o := &x.orders[i]
		if q != index.HashQuery(o.Hash) && q != index.HashQuery(o.ID) || want != nil && !want(o) {
			continue
		}
		if len(a.Orders) == limit {
			a.More = true
			break
		}
		a.Orders = append(a.Orders, *o)
	}
	return a, x.err
}

func timeline() index.Timeline {
	received := time.Date(2026, 11, 20, 21, 0, 0, 123_456_000, time.UTC)
	at := func(us int) time.Time { return received.Add(time.Duration(us) * time.Microsecond) }
	return index.Timeline{
		Accept: order.NewAcceptID(received), ID: order.ID{1}, Hash: common.Hash{2}, Signer: common.Address{3},
		Method: order.MethodSendBundle, Kind: order.KindBundle, Priority: order.PriorityHigh, Transactions: 2,
		Replacement: order.UUID{4}, Nonce: 5, ReceivedAt: received, Deadline: at(36_000_000), InSequence: 7, InStoredAt: at(200),
		DecidedAt: at(900), Attempts: 2, Validated: true, OKSequence: 8, OKStoredAt: at(1000),
		Ends: []index.End{
			{Target: "a", Outcome: ledger.Refused, RPCCode: -32000, Attempts: 3, Status: 200, SentAt: at(1200), DoneAt: at(1500), RecordedAt: at(1600), Text: "secret\x1b[31m host"},
			{Target: "b", Outcome: ledger.Delivered, Attempts: 1, Status: 200, SentAt: at(1250), DoneAt: at(1450), RecordedAt: at(1600)},
		},
	}
}

func serveTrace(t *testing.T, x traced) string {
	t.Helper()
	srv := httptest.NewServer(tracePage(x, slog.New(slog.DiscardHandler)))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestTracePrintsEveryStageInMicroseconds(t *testing.T) {
	url := serveTrace(t, traced{orders: []index.Timeline{timeline()}})
	o := call(t, "", nil, "trace", "--admin", url, common.Hash{2}.Hex())
	require.Equal(t, exitOK, o.code, o.errors)
	var lines []string
	for line := range strings.Lines(o.out) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	for _, want := range []string{
		"21:00:00.123456 +0.000 ms received at the door, 2026-11-20",
		"21:00:00.123656 +0.200 ms stored IN_HIGH sequence 7",
		"21:00:00.124356 +0.900 ms validated valid, delivery 2 to a worker",
		"21:00:00.124456 +1.000 ms queued OK_HIGH sequence 8",
		"21:00:00.124656 +1.200 ms sent a, first of 3 attempts",
		`21:00:00.124956 +1.500 ms refused a, attempts 3, HTTP 200, JSON-RPC code -32000, "secret\x1b[31m host"`,
		"21:00:00.124906 +1.450 ms delivered b, attempts 1, HTTP 200",
		"21:00:00.125056 +1.600 ms recorded b",
		"transactions 2",
	} {
		require.Contains(t, lines, want)
	}
	require.NotContains(t, o.out, "\x1b", "a builder's words don't steer the terminal")
}

func TestTraceOfAnOrderThatWaitsSaysSo(t *testing.T) {
	pending := timeline()
	pending.Ends = nil
	url := serveTrace(t, traced{orders: []index.Timeline{pending}, behind: true})
	o := call(t, "", nil, "trace", "--admin", url, common.Hash{2}.Hex())
	require.Equal(t, exitOK, o.code, o.errors)
	require.Contains(t, o.out, "no terminal record yet")
	require.Contains(t, o.out, "the index is behind")
}

func TestTracePrintsJSON(t *testing.T) {
	url := serveTrace(t, traced{orders: []index.Timeline{timeline(), timeline()}})
	o := call(t, "", nil, "trace", "--json", "--limit=1", "--admin", url, common.Hash{2}.Hex())
	require.Equal(t, exitOK, o.code, o.errors)
	var a traceAnswer
	require.NoError(t, json.Unmarshal([]byte(o.out), &a))
	require.Len(t, a.Orders, 1)
	require.True(t, a.More)
	require.Equal(t, "refused", a.Orders[0].Ends[0].Outcome)
	require.Equal(t, uint64(7), a.Orders[0].In.Sequence)
}

func TestTraceOfWhatIsNotThereFailsAndSaysWhy(t *testing.T) {
	t.Parallel()
	url := serveTrace(t, traced{})
	o := call(t, "", nil, "trace", "--admin", url, common.Hash{9}.Hex())
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "no such order")
	o = call(t, "", nil, "trace", "--admin", url, "0x12")
	require.Equal(t, exitUsage, o.code)
	require.Contains(t, o.errors, "64 hex digits")
	o = call(t, "", nil, "trace", "--admin", serveTrace(t, traced{err: index.ErrClosed}), common.Hash{9}.Hex())
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "503")
	o = call(t, "", nil, "trace", "--limit=0", "--admin", url, common.Hash{9}.Hex())
	require.Equal(t, exitFailure, o.code)
	srv := httptest.NewServer(noTracePage())
	t.Cleanup(srv.Close)
	o = call(t, "", nil, "trace", "--admin", srv.URL, common.Hash{9}.Hex())
	require.Contains(t, o.errors, "no trace index")
}

func TestASenderSeesItsOwnOrderAndNotWhereItWent(t *testing.T) {
	mine := timeline()
	s := orderStatus{known{traced{orders: []index.Timeline{mine}}}.orders}
	answer, err := s.OrderStatus(t.Context(), mine.Signer, mine.Hash)
	require.NoError(t, err)
	require.NotContains(t, string(answer), "secret", "a builder's words may name hosts")
	require.NotContains(t, string(answer), `"a"`, "nor is a builder named")
	var got struct{ Orders []sentOrder }
	require.NoError(t, json.Unmarshal(answer, &got))
	require.Len(t, got.Orders, 1)
	require.Equal(t, "delivered", got.Orders[0].Status, "one of them took it")
	require.Len(t, got.Orders[0].Destinations, 2)

	for _, c := range []struct {
		signer common.Address
		hash   common.Hash
	}{{common.Address{9}, mine.Hash}, {mine.Signer, common.Hash{9}}} {
		answer, err = s.OrderStatus(t.Context(), c.signer, c.hash)
		require.NoError(t, err)
		require.Nil(t, answer)
	}
	peers := mine
	peers.Origin = "alice"
	answer, err = orderStatus{known{traced{orders: []index.Timeline{peers}}}.orders}.OrderStatus(t.Context(), mine.Signer, mine.Hash)
	require.NoError(t, err)
	require.Nil(t, answer, "a peer's copy is not its sender's")
	_, err = orderStatus{known{traced{err: errors.New("broken")}}.orders}.OrderStatus(t.Context(), mine.Signer, mine.Hash)
	require.Error(t, err)
}

func TestASenderReadsWhyItsOrderWasRefused(t *testing.T) {
	refused := timeline()
	refused.Validated, refused.OKSequence, refused.OKStoredAt = false, 0, time.Time{}
	refused.Ends = []index.End{{Target: ledger.AnyTarget, Outcome: ledger.Invalid, Text: "gas limit too high"}}
	answer, err := orderStatus{known{traced{orders: []index.Timeline{refused}}}.orders}.OrderStatus(t.Context(), refused.Signer, common.Hash(refused.ID))
	require.NoError(t, err)
	require.Contains(t, string(answer), `"status":"invalid","reason":"gas limit too high"`)
	pending := timeline()
	pending.Ends = nil
	answer, err = orderStatus{known{traced{orders: []index.Timeline{pending}}}.orders}.OrderStatus(t.Context(), pending.Signer, pending.Hash)
	require.NoError(t, err)
	require.Contains(t, string(answer), `"status":"pending"`)
}

// elsewhere is another process that answers, as it should or not.
type elsewhere func(signer common.Address, hash common.Hash) ([]byte, error)

func (f elsewhere) AskStatus(_ context.Context, signer common.Address, hash common.Hash) ([]byte, error) {
	return f(signer, hash)
}

// A door on its own tells of its sender's orders alone, whatever it is answered.
func TestADoorOnItsOwnAsksElsewhere(t *testing.T) {
	mine, theirs := timeline(), timeline()
	theirs.Signer = common.Address{9}
	there := known{traced{orders: []index.Timeline{mine, theirs}}}
	door := orderStatus{asked{elsewhere(func(signer common.Address, hash common.Hash) ([]byte, error) {
		return there.answer(t.Context(), signer, hash)
	})}.orders}
	direct, err := orderStatus{there.orders}.OrderStatus(t.Context(), mine.Signer, mine.Hash)
	require.NoError(t, err)
	answer, err := door.OrderStatus(t.Context(), mine.Signer, mine.Hash)
	require.NoError(t, err)
	require.JSONEq(t, string(direct), string(answer))
	answer, err = door.OrderStatus(t.Context(), common.Address{8}, mine.Hash)
	require.NoError(t, err)
	require.Nil(t, answer)

	careless := orderStatus{asked{elsewhere(func(common.Address, common.Hash) ([]byte, error) {
		return there.answer(t.Context(), theirs.Signer, theirs.Hash)
	})}.orders}
	answer, err = careless.OrderStatus(t.Context(), mine.Signer, mine.Hash)
	require.NoError(t, err)
	require.Nil(t, answer, "another's order")
	for _, broken := range []elsewhere{
		func(common.Address, common.Hash) ([]byte, error) { return []byte("{"), nil },
		func(common.Address, common.Hash) ([]byte, error) { return nil, errors.New("nobody") },
	} {
		_, err = orderStatus{asked{broken}.orders}.OrderStatus(t.Context(), mine.Signer, mine.Hash)
		require.Error(t, err)
	}
}

// TestANodeTracesAnOrderForItsOperatorAndItsSender runs a node with a real store, stops it and looks
// again.
func TestANodeTracesAnOrderForItsOperatorAndItsSender(t *testing.T) {
	t.Parallel()
	builder, dir := newBuilder(t), t.TempDir()
	args := nodeArgs(dir, "--builder.url="+builder.URL)
	p := start(t, nil, args...)
	s, stranger := newSender(t), newSender(t)
	body := s.bundle(t)
	status, hash, text := s.send(t, p.url("ingress"), body)
	require.Equal(t, http.StatusOK, status, text)

	var answer traceAnswer
	ended := func() bool {
		o := call(t, "", nil, "trace", "--json", "--admin", p.url("admin"), hash)
		answer = traceAnswer{}
		return o.code == exitOK && json.Unmarshal([]byte(o.out), &answer) == nil && len(answer.Orders) == 1 && len(answer.Orders[0].Ends) == 1
	}
	eventually(t, "the order's timeline has its end", ended)
	o := answer.Orders[0]
	require.Equal(t, "delivered", o.Ends[0].Outcome)
	require.Equal(t, "builder", o.Ends[0].Target)
	require.Equal(t, 1, o.Transactions)
	require.Equal(t, uint64(1), o.In.Sequence)
	require.Equal(t, uint64(1), o.OK.Sequence)
	in := []time.Time{o.ReceivedAt, o.In.StoredAt, o.DecidedAt, o.OK.StoredAt, o.Ends[0].SentAt, o.Ends[0].DoneAt}
	for i := range in {
		require.False(t, in[i].IsZero(), "stage %d", i)
	}

	ask := []byte(`{"jsonrpc":"2.0","id":1,"method":"millrace_orderStatus","params":["` + hash + `"]}`)
	_, _, mine := s.send(t, p.url("ingress"), ask)
	require.Contains(t, mine, `"status":"delivered"`)
	status, _, theirs := stranger.send(t, p.url("ingress"), ask)
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":1,"result":null}`, theirs)

	tx := transactionIn(t, body)
	found := call(t, "", nil, "trace", "--admin", p.url("admin"), tx)
	require.Equal(t, exitOK, found.code, found.errors)
	require.Contains(t, found.out, hash)

	require.Equal(t, exitOK, p.stop())
	p = start(t, nil, args...)
	eventually(t, "the timeline is there after a restart", ended)
	require.Equal(t, o, answer.Orders[0])
}

// transactionIn is the hash of a bundle's transaction.
func transactionIn(t *testing.T, body []byte) string {
	t.Helper()
	var call struct {
		Params []struct{ Txs []hexutil.Bytes }
	}
	require.NoError(t, json.Unmarshal(body, &call))
	return order.TransactionHash(call.Params[0].Txs[0]).Hex()
}

func TestWithoutTracingThereIsNoIndexAndNoStatus(t *testing.T) {
	t.Parallel()
	builder, dir := newBuilder(t), t.TempDir()
	p := start(t, nil, nodeArgs(dir, "--builder.url="+builder.URL, "--no-trace.enabled")...)
	s := newSender(t)
	hash := s.accepted(t, p.url("ingress"))
	o := call(t, "", nil, "trace", "--admin", p.url("admin"), hash)
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "no trace index")
	status, _, text := s.send(t, p.url("ingress"), []byte(`{"jsonrpc":"2.0","id":1,"method":"millrace_orderStatus","params":["`+hash+`"]}`))
	require.Equal(t, http.StatusNotFound, status, text)
	require.NoDirExists(t, filepath.Join(dir, "trace"))
}
