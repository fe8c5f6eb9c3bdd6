package main

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	calls "millrace/internal/engineapi/record"
)

// A record that was stored twice, after the server's window for repeats, is one call.
func TestACaptureHasACallThatWasStoredTwiceOnce(t *testing.T) {
	var out bytes.Buffer
	w := &captureWriter{out: bufio.NewWriter(&out), open: map[calls.ID]*calls.Request{}}
	id := calls.ID{Epoch: 1, Sequence: 7}
	request := calls.Entry{Request: &calls.Request{ID: id, Method: "eth_chainId", Raw: []byte(`{"id":1,"method":"eth_chainId"}`)}}
	require.NoError(t, w.add(request))
	require.NoError(t, w.add(request))
	require.NoError(t, w.add(calls.Entry{Outcome: &calls.Outcome{ID: id, HTTPStatus: 200}}))
	require.NoError(t, w.rest())
	require.NoError(t, w.out.Flush())
	require.Equal(t, 1, bytes.Count(out.Bytes(), []byte("eth_chainId\",")))
}
