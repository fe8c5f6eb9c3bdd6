package loadtest

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"
)

func post(t *testing.T, url, body string) (int, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func TestSinkRecordsWhatItGot(t *testing.T) {
	sink, url := startSink(t)
	tag := Tag{Run: 5, Flow: 6, Seq: 1<<48 - 1}
	b := tag.Bytes()
	body := `{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[{"txs":["0x01"],"revertingTxHashes":["` +
		common.Hash(b).Hex() + `"],"replacementNonce":42,"signingAddress":"0x00000000000000000000000000000000000000aa","bundleHash":"` +
		common.Hash{7}.Hex() + `"}]}`
	status, err := post(t, url, body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	rs := sink.Receipts()
	require.Len(t, rs, 1)
	require.NotZero(t, rs[0].At)
	rs[0].At = time.Time{}
	require.Equal(t, Receipt{
		Tag: tag, Tagged: true, Method: "eth_sendBundle", Hash: common.Hash{7}, Signer: common.HexToAddress("0xaa"), Nonce: 42,
		Status: http.StatusOK, Size: len(body),
	}, rs[0])
	sink.Reset()
	require.Empty(t, sink.Receipts())
}

// What a long run has checked it need not keep.
func TestWhatIsForgottenStillCounts(t *testing.T) {
	now := time.Now()
	j := &Journal{}
	for i := range 3 * journalChunk / 2 {
		j.add(Result{Tag: Tag{Seq: uint64(i)}, Answer: AnswerAccepted, Done: now.Add(time.Duration(i))})
	}
	j.Forget(now.Add(journalChunk + 10))
	rest := j.Results()
	require.Len(t, rest, journalChunk/2-10)
	require.Equal(t, uint64(journalChunk+10), rest[0].Tag.Seq)
	require.Equal(t, 3*journalChunk/2, j.Count(AnswerAccepted))
	j.add(Result{Answer: AnswerShed, Done: now.Add(time.Hour)})
	require.Len(t, j.Results(), journalChunk/2-9)
	j.Forget(now.Add(2 * time.Hour))
	require.Empty(t, j.Results())
	require.Equal(t, 1+3*journalChunk/2, j.Answered())

	sink := NewSink()
	sink.receipts, sink.taken = []Receipt{{At: now}, {At: now.Add(2)}}, 2
	sink.Forget(now.Add(1))
	require.Equal(t, []Receipt{{At: now.Add(2)}}, sink.Receipts())
	require.Equal(t, 2, sink.Taken())
}

func TestScanFindsWhatIsSplicedInBeforeTheTransactions(t *testing.T) {
	r := scanReceipt([]byte(`{"method":"eth_sendBundle","params":[{"bundleHash":"` + common.Hash{7}.Hex() + `","replacementNonce": 3,"txs":["0x"]}]}`))
	require.Equal(t, common.Hash{7}, r.Hash)
	require.Equal(t, uint64(3), r.Nonce)
}

func TestSinkFailsAsItIsTold(t *testing.T) {
	sink, url := startSink(t)
	sink.SetMode(SinkFails)
	status, err := post(t, url, `{}`)
	require.NoError(t, err)
	require.Equal(t, http.StatusInternalServerError, status)

	sink.SetMode(SinkErrors)
	status, err = post(t, url, `{}`)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	require.False(t, sink.Receipts()[1].Taken())

	sink.SetMode(SinkHangs)
	hung := make(chan error, 1)
	go func() {
		_, err := post(t, url, `{}`)
		hung <- err
	}()
	require.Eventually(t, func() bool { return len(sink.Receipts()) == 3 }, timeout, tick)
	require.Empty(t, hung)
	sink.SetMode(SinkUp)
	require.Error(t, <-hung)
	require.Zero(t, sink.Taken())
}

func TestSinkComesBackOnTheSamePort(t *testing.T) {
	sink, url := startSink(t)
	for range 3 {
		sink.SetMode(SinkDown)
		require.Eventually(t, func() bool { _, err := post(t, url, `{}`); return err != nil }, timeout, tick)
		sink.SetMode(SinkUp)
		require.Eventually(t, func() bool { _, err := post(t, url, `{}`); return err == nil }, timeout, tick)
	}
}

func TestSinkIsItsOwnReadyURL(t *testing.T) {
	sink, url := startSink(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/readyz", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	http.DefaultClient.CloseIdleConnections()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Empty(t, sink.Receipts())
}
