//go:build e2e && linux

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/jsonrpc"
	"millrace/internal/order"
	"millrace/loadtest"
)

// sender signs hand-made bodies.
type sender struct {
	t *testing.T
	s *loadtest.Signer
}

func newSender(t *testing.T, seed uint64) *sender {
	t.Helper()
	s, err := loadtest.NewSigner(seed)
	require.NoError(t, err)
	return &sender{t: t, s: s}
}

func (s *sender) send(door string, body []byte) reply {
	s.t.Helper()
	header, err := s.s.Sign(body)
	require.NoError(s.t, err)
	return send(s.t, door, header, body)
}

func freshSeed() uint64 { return uint64(time.Now().UnixNano()) }

// replaceable adds a replacement key, and a nonce when it is positive, to a bundle of the corpus.
func replaceable(t *testing.T, uuid string, nonce int) []byte {
	t.Helper()
	o := orderOf(t, loadtest.ShapeBundle)
	extra := fmt.Sprintf(`"replacementUuid":"%s",`, uuid)
	if nonce > 0 {
		extra += fmt.Sprintf(`"replacementNonce":%d,`, nonce)
	}
	return bytes.Replace(o.Body, []byte(`"blockNumber"`), []byte(extra+`"blockNumber"`), 1)
}

func TestAnInvalidOrderIsRefusedAgainAtTheOtherDoor(t *testing.T) {
	beside(t)
	p := startSplit(t, 2, 1, "--ingress.verdict_wait=10s") // on a busy machine, too
	o := orderOf(t, loadtest.ShapeInvalid)
	for i, door := range []string{p.doors[0], p.doors[1], p.doors[0]} {
		r := send(t, door, o.Header, o.Body)
		require.NotNil(t, r.Error, "attempt %d: %s", i, r.Result)
		require.Equal(t, jsonrpc.CodeInvalidParams, r.Error.Code)
		require.Contains(t, string(r.Error.Data), "chain")
		require.Equal(t, http.StatusBadRequest, r.status)
	}
	require.Empty(t, p.sink.Receipts())
}

// The same order as High at one door, and again at another one, where its sender has lost its good
// name: there it is of a lower class, so another stream stores it, and the target loop must notice.
func TestAResendInAnotherClassReachesTheTargetOnce(t *testing.T) {
	p := startSplit(t, 2, 1)
	seed := freshSeed()
	corpus := func(flow uint16, s loadtest.Shape) *loadtest.Corpus {
		c, err := loadtest.NewCorpus(loadtest.CorpusConfig{Seed: seed, Flow: flow, Signers: 1, Mix: loadtest.Only(s)})
		require.NoError(t, err)
		return c
	}
	o, err := corpus(1, loadtest.ShapeReverting).Order(0)
	require.NoError(t, err)
	first := send(t, p.doors[0], o.Header, o.Body)
	require.Equal(t, http.StatusOK, first.status, "%s", first.Result)
	wrong := corpus(2, loadtest.ShapeInvalid)
	for n := range uint64(150) {
		bad, err := wrong.Order(n)
		require.NoError(t, err)
		require.NotNil(t, send(t, p.doors[1], bad.Header, bad.Body).Error)
	}
	again := send(t, p.doors[1], o.Header, o.Body)
	require.Equal(t, http.StatusOK, again.status, "%s", again.Result)
	hash := first.bundleHash(t)
	require.Equal(t, hash, again.bundleHash(t))
	outcomes, classes := map[string]int{}, map[string]int{}
	for _, r := range recordsOf(t, p.egress.admin, hash, 2) {
		outcomes[r.Outcome]++
		classes[r.Priority]++
	}
	require.Equal(t, map[string]int{"delivered": 1, "duplicate": 1}, outcomes)
	require.Len(t, classes, 2, "the resend has another class")
	require.Equal(t, 1, taken(p, hash))
}

func taken(p *pipeline, hash common.Hash) int {
	n := 0
	for _, r := range p.sink.Receipts() {
		if r.Taken() && r.Hash == hash {
			n++
		}
	}
	return n
}

// A transaction as eth_sendRawTransaction, as a private one, and by another sender at another door.
func TestACopyByAnotherMethodReachesTheTargetOnce(t *testing.T) {
	beside(t)
	p := startSplit(t, 2, 1)
	o := orderOf(t, loadtest.ShapeTransaction)
	raw := bytes.TrimSuffix(bytes.SplitN(o.Body, []byte(`"params":["`), 2)[1], []byte(`"]}`))
	require.Equal(t, http.StatusOK, send(t, p.doors[0], o.Header, o.Body).status)
	s := newSender(t, freshSeed())
	private := []byte(`{"jsonrpc":"2.0","id":"x","method":"` + order.MethodSendPrivateTransaction.String() + `","params":[{"tx":"` + string(raw) + `"}]}`)
	require.Equal(t, http.StatusOK, s.send(p.doors[1], private).status)
	plain := []byte(`{"jsonrpc":"2.0","id":2,"method":"` + order.MethodSendPrivateRawTransaction.String() + `","params":["` + string(raw) + `"]}`)
	require.Equal(t, http.StatusOK, s.send(p.doors[0], plain).status)
	recordsOf(t, p.egress.admin, o.Hash, 1)
	got := p.quiet(t)
	require.Len(t, got, 1)
	require.Equal(t, "eth_sendRawTransaction", got[0].Method)
}

// quiet waits until orders of each class, sent now through each door, have gone all the way, so that
// what was sent before has as well; it returns the receipts of all but them.
func (p *pipeline) quiet(t *testing.T) []loadtest.Receipt {
	t.Helper()
	probes := map[loadtest.Tag]bool{}
	for _, door := range p.doors {
		for _, s := range []loadtest.Shape{loadtest.ShapeReverting, loadtest.ShapeBundle, loadtest.ShapeBlobTransaction} {
			o := orderOf(t, s)
			r := send(t, door, o.Header, o.Body)
			require.Equal(t, http.StatusOK, r.status, "%s", r.Result)
			recordsOf(t, p.egress.admin, r.bundleHash(t), 1)
			probes[o.Tag] = true
		}
	}
	var others []loadtest.Receipt
	for _, r := range p.sink.Receipts() {
		if !probes[r.Tag] {
			others = append(others, r)
		}
	}
	return others
}

func TestEqualNoncesReachTheTargetOnce(t *testing.T) {
	beside(t)
	p := startSplit(t, 2, 1)
	s := newSender(t, freshSeed())
	uuid := "6e9f1c4a-2b7d-4c3e-9f10-0a1b2c3d4e5f"
	a, b := replaceable(t, uuid, 5), replaceable(t, uuid, 5)
	require.Equal(t, http.StatusOK, s.send(p.doors[0], a).status)
	r := s.send(p.doors[0], b)
	require.NotNil(t, r.Error, "another content under the same nonce is refused")
	require.Equal(t, jsonrpc.CodeInvalidParams, r.Error.Code)
	require.Equal(t, http.StatusOK, s.send(p.doors[0], a).status, "the first one again is a repeat")
	s.send(p.doors[1], b) // another process may not know of the first, but the target gets one of them
	s.send(p.doors[1], a)
	got := p.quiet(t)
	require.Len(t, got, 1)
	require.Equal(t, uint64(5), got[0].Nonce)
}

// Without a nonce nothing that can be replaced is a repeat: cancel, update, cancel again works.
func TestCancelUpdateCancelAgainIsThreeOrders(t *testing.T) {
	p := startNode(t)
	s := newSender(t, freshSeed())
	uuid := "7a0b1c4a-2b7d-4c3e-9f10-0a1b2c3d4e5f"
	cancel := []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[{"txs":[],"replacementUuid":"` + uuid + `"}]}`)
	for i, body := range [][]byte{cancel, replaceable(t, uuid, 0), cancel} {
		r := s.send(p.doors[0], body)
		require.Equal(t, http.StatusOK, r.status, "%d: %s", i, r.Result)
		eventually(t, 10*time.Second, func() bool { return p.sink.Taken() == i+1 }, "order %d arrives", i)
	}
	var last uint64
	for _, r := range p.sink.Receipts() {
		require.Greater(t, r.Nonce, last)
		last = r.Nonce
	}
}
