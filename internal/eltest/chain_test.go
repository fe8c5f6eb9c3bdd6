package eltest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// send posts a body straight into the client.
func send(t *testing.T, f *Fake, body string) engineapi.Result {
	t.Helper()
	status, answer := post(t, f, body)
	return engineapi.ParseResult(status, answer)
}

func post(t *testing.T, f *Fake, body string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.URL(), strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	if f.cfg.Secret != nil {
		req.Header.Set("Authorization", f.cfg.Secret.Authorization(time.Now()))
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	require.NoError(t, err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, answer
}

func newPayload(b Block) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"engine_newPayloadV4","params":[%s,[],"%s",[]]}`, Payload(b), common.Hash{})
}

func forkchoice(head, final common.Hash) string {
	return string(engineapi.AppendForkchoice(nil, 1, "engine_forkchoiceUpdatedV3", engineapi.Forkchoice{Head: head, Safe: final, Finalized: final}))
}

// branch is n blocks on top of parent.
func branch(parent Block, n int, salt uint64) []Block {
	blocks := make([]Block, n)
	for i := range blocks {
		blocks[i] = Child(parent, salt)
		parent = blocks[i]
	}
	return blocks
}

func started(t *testing.T, cfg Config) *Fake {
	t.Helper()
	f := NewFake(cfg)
	require.NoError(t, f.Start())
	t.Cleanup(f.Stop)
	return f
}

// apply feeds blocks and makes the last of them the head.
func apply(t *testing.T, f *Fake, blocks []Block, final common.Hash) {
	t.Helper()
	for _, b := range blocks {
		require.Equal(t, engineapi.StatusValid, send(t, f, newPayload(b)).Status)
		require.Equal(t, engineapi.StatusValid, send(t, f, forkchoice(b.Hash, final)).Status)
	}
	require.Equal(t, blocks[len(blocks)-1], f.Head())
}

func TestAPayloadWithoutItsParentIsNotKept(t *testing.T) {
	f := started(t, Config{})
	b := branch(GenesisBlock, 3, 1)
	require.Equal(t, engineapi.StatusSyncing, send(t, f, newPayload(b[1])).Status)
	require.Equal(t, engineapi.StatusSyncing, send(t, f, forkchoice(b[1].Hash, common.Hash{})).Status)
	require.Equal(t, engineapi.StatusValid, send(t, f, newPayload(b[0])).Status)
	require.Equal(t, engineapi.StatusSyncing, send(t, f, forkchoice(b[1].Hash, common.Hash{})).Status, "the gap was filled, the block was not kept")
	require.Equal(t, engineapi.StatusValid, send(t, f, newPayload(b[1])).Status)
	require.Equal(t, engineapi.StatusValid, send(t, f, forkchoice(b[1].Hash, common.Hash{})).Status)
	require.Equal(t, b[1], f.Head())
	require.Equal(t, engineapi.StatusValid, send(t, f, newPayload(b[0])).Status, "a known payload is VALID at once")
}

func TestPayloadsAloneBreakAt130AboveTheHead(t *testing.T) {
	f := started(t, Config{})
	b := branch(GenesisBlock, 131, 1)
	for i, block := range b {
		want := engineapi.StatusValid
		if i >= 129 {
			want = engineapi.StatusSyncing
		}
		require.Equal(t, want, send(t, f, newPayload(block)).Status, i+1)
	}
	apply(t, f, b[128:129], common.Hash{})
	apply(t, f, b[129:], common.Hash{})
}

func TestAnOldForkchoiceRewindsUpToABound(t *testing.T) {
	f := started(t, Config{})
	b := branch(GenesisBlock, 40, 1)
	apply(t, f, b, common.Hash{})
	r := send(t, f, forkchoice(b[6].Hash, common.Hash{}))
	require.Equal(t, engineapi.CodeTooDeepReorg, r.Code)
	require.Equal(t, b[39], f.Head())
	require.Equal(t, engineapi.StatusValid, send(t, f, forkchoice(b[20].Hash, b[10].Hash)).Status)
	require.Equal(t, b[20], f.Head())
	require.Equal(t, engineapi.StatusValid, send(t, f, forkchoice(b[9].Hash, common.Hash{})).Status, "below the finalized block")
	require.Equal(t, b[20], f.Head())
	_, final := f.Anchors()
	require.Equal(t, b[10].Hash, final)
	side := branch(b[18], 2, 2)
	apply(t, f, side, b[10].Hash)
	r = send(t, f, forkchoice(side[1].Hash, b[20].Hash))
	require.Equal(t, engineapi.CodeInvalidForkchoice, r.Code, "another branch's block cannot be final")
}

func TestABadBlockIsRememberedUntilARestart(t *testing.T) {
	f := started(t, Config{})
	b := branch(GenesisBlock, 3, 1)
	f.Reject(b[1].Hash)
	apply(t, f, b[:1], common.Hash{})
	for range 2 {
		r := send(t, f, newPayload(b[1]))
		require.Equal(t, engineapi.StatusInvalid, r.Status)
		require.Equal(t, b[0].Hash, *r.LatestValid)
	}
	require.Equal(t, engineapi.StatusInvalid, send(t, f, newPayload(b[2])).Status)
	require.Equal(t, engineapi.StatusInvalid, send(t, f, forkchoice(b[2].Hash, common.Hash{})).Status)
	f.Stop()
	require.NoError(t, f.Start())
	require.Equal(t, engineapi.StatusSyncing, send(t, f, newPayload(b[2])).Status)
	f.Accept(b[1].Hash)
	apply(t, f, b[1:], common.Hash{})
}

func TestWhatAKillCosts(t *testing.T) {
	for _, tc := range []struct {
		cost    Kill
		head    int
		again   engineapi.Status
		applied bool
	}{{KillKeeps, 5, engineapi.StatusValid, true}, {KillLoses, 0, engineapi.StatusSyncing, false}, {KillWrecks, 0, engineapi.StatusValid, false}} {
		f := started(t, Config{OnKill: tc.cost})
		b := branch(GenesisBlock, 5, 1)
		apply(t, f, b, common.Hash{})
		url := f.URL()
		f.Kill()
		require.NoError(t, f.Start())
		require.Equal(t, url, f.URL())
		require.Equal(t, uint64(tc.head), f.Head().Number)
		require.Equal(t, tc.again, send(t, f, newPayload(b[4])).Status)
		require.Equal(t, tc.again, send(t, f, forkchoice(b[4].Hash, common.Hash{})).Status)
		require.Equal(t, tc.applied, f.Head() == b[4])
		f.Wipe()
		apply(t, f, b, common.Hash{})
	}
}

func TestAForkchoiceExecutesWhatAKillLeftBare(t *testing.T) {
	f := started(t, Config{OnKill: KillBares})
	b := branch(GenesisBlock, 6, 1)
	apply(t, f, b[:2], common.Hash{})
	for _, block := range b[2:5] {
		require.Equal(t, engineapi.StatusValid, send(t, f, newPayload(block)).Status)
	}
	f.Kill()
	require.NoError(t, f.Start())
	require.Equal(t, b[1], f.Head())
	require.Equal(t, engineapi.StatusValid, send(t, f, newPayload(b[4])).Status, "known")
	require.Equal(t, engineapi.StatusSyncing, send(t, f, newPayload(b[5])).Status, "its parent has no state")
	require.Equal(t, engineapi.StatusValid, send(t, f, forkchoice(b[4].Hash, common.Hash{})).Status)
	require.Equal(t, b[4], f.Head())
	apply(t, f, b[5:], common.Hash{})
}

func TestSnapWaitsForPeersForEver(t *testing.T) {
	f := started(t, Config{Snap: true, Peers: 3})
	b := branch(GenesisBlock, 2, 1)
	require.Equal(t, engineapi.StatusValid, send(t, f, newPayload(b[0])).Status)
	require.Equal(t, engineapi.StatusSyncing, send(t, f, newPayload(b[1])).Status)
	_, answer := post(t, f, `{"id":1,"method":"eth_syncing"}`)
	require.Contains(t, string(answer), "highestBlock")
	f.SetSnap(SnapOff)
	apply(t, f, b, common.Hash{})
}

func TestBadAttributesAreRefusedBeforeTheHeadMoves(t *testing.T) {
	f := started(t, Config{})
	b := branch(GenesisBlock, 1, 1)
	require.Equal(t, engineapi.StatusValid, send(t, f, newPayload(b[0])).Status)
	with := func(attributes string) string {
		return strings.Replace(forkchoice(b[0].Hash, common.Hash{}), ",null]", ","+attributes+"]", 1)
	}
	require.Equal(t, engineapi.CodeInvalidAttributes, send(t, f, with(`{}`)).Code)
	require.Equal(t, GenesisBlock, f.Head())
	require.Equal(t, engineapi.CodeInvalidAttributes, send(t, f, with(`{"timestamp":"0x1","prevRandao":"0x01"}`)).Code)
	require.Equal(t, b[0], f.Head(), "only the time is looked at after the head moved")
	r := send(t, f, with(fmt.Sprintf(`{"timestamp":"0x%x","prevRandao":"0x01"}`, b[0].Timestamp+12)))
	require.NotEmpty(t, r.PayloadID)
	_, answer := post(t, f, `{"id":1,"method":"engine_getPayloadV4","params":["`+r.PayloadID+`"]}`)
	built := record.ParseBuilt(r.PayloadID, answer)
	require.NotNil(t, built)
	require.Equal(t, uint64(42), built.Value.Uint64())
	require.Equal(t, engineapi.CodeUnknownPayload, send(t, f, `{"id":1,"method":"engine_getPayloadV4","params":["0x00"]}`).Code)
	require.Equal(t, engineapi.CodeInvalidParams, send(t, f, strings.Replace(with(`null,null`), "V3", "V2", 1)).Code)
}

func TestTheCaptureIsAnsweredByteForByte(t *testing.T) {
	b, err := os.ReadFile("testdata/sample.jsonl")
	require.NoError(t, err)
	f := started(t, Config{})
	require.NoError(t, f.Script(bytes.NewReader(b)))
	for p, err := range record.ReadPairs(bytes.NewReader(b)) {
		require.NoError(t, err)
		status, answer := post(t, f, string(p.Request))
		require.Equal(t, p.HTTPStatus, status)
		require.Equal(t, string(p.Answer), string(answer), p.Seq)
	}
	require.Equal(t, uint64(12), f.Head().Number)
	require.Len(t, f.Calls(), 53)
	var last record.Pair
	for p := range record.ReadPairs(bytes.NewReader(b)) {
		last = p
	}
	_, answer := post(t, f, strings.Replace(string(last.Request), `"id":78`, `"id":"mine"`, 1))
	require.Equal(t, strings.Replace(string(last.Answer), `"id":78`, `"id":"mine"`, 1), string(answer))
	require.Error(t, f.Script(strings.NewReader("x")))
}

func TestAForeignWriterMovesTheHead(t *testing.T) {
	f := started(t, Config{})
	b := branch(GenesisBlock, 2, 1)
	require.False(t, f.SetHead(b[0].Hash))
	f.Add(b[0])
	require.True(t, f.SetHead(b[0].Hash))
	require.Equal(t, b[0], f.Head())
}
