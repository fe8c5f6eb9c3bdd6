//go:build e2e && linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/engineapi"
)

// clProxyBin names the variable with the path of cl-proxy's binary. It is built from a clone, see docs/performance.md: no
// go.mod of ours names it, because what it links is under a licence that this repository keeps out.
const clProxyBin = "MILLRACE_CLPROXY_BIN"

// slowSecondary is how late the slow secondary answers, as in the issue.
const slowSecondary = 3 * time.Second

// multiplexer is one of the two under comparison, in front of the shared primary, with a secondary of its own.
type multiplexer struct {
	name      string
	url       string
	secondary *eltest.Fake
	client    *http.Client
	took      map[engineapi.Class][]time.Duration
}

// sameFlags are the flags of both.
func sameFlags(primary, secondary *eltest.Fake, port string) []string {
	return []string{"--primary-builder", primary.URL(), "--secondary-builder", secondary.URL(), "--port", port}
}

// multiplexers starts both with the same flags.
func multiplexers(t *testing.T, primary *eltest.Fake) [2]*multiplexer {
	t.Helper()
	theirs := os.Getenv(clProxyBin)
	if theirs == "" {
		t.Skipf("%s is not set: docs/performance.md says how to build cl-proxy", clProxyBin)
	}
	var both [2]*multiplexer
	for i, name := range []string{"cl-proxy", "millrace"} {
		_, port, err := net.SplitHostPort(freeAddr(t))
		require.NoError(t, err)
		m := &multiplexer{
			name: name, url: "http://127.0.0.1:" + port, secondary: started(t),
			client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}, took: map[engineapi.Class][]time.Duration{},
		}
		t.Cleanup(m.client.CloseIdleConnections)
		if flags := sameFlags(primary, m.secondary, port); name == "millrace" {
			newProcess(t, name, "engine", flags...).up(t)
		} else {
			clProxy(t, theirs, flags)
		}
		eventually(t, 10*time.Second, func() bool {
			c, err := net.Dial("tcp", "127.0.0.1:"+port)
			if err == nil {
				c.Close()
			}
			return err == nil
		}, "%s listens", name)
		both[i] = m
	}
	return both
}

// clProxy runs the other one until the end of the test.
func clProxy(t *testing.T, binary string, flags []string) {
	t.Helper()
	cmd := exec.Command(binary, flags...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// post is the answer to a call, and how long it took is kept.
func (m *multiplexer) post(t *testing.T, body []byte) string {
	t.Helper()
	calls, _, err := engineapi.ParseCalls(body)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.url, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	secret := testSecret(t, 0xc1)
	req.Header.Set("Authorization", secret.Authorization(time.Now()))
	begun := time.Now()
	resp, err := m.client.Do(req)
	require.NoError(t, err, m.name)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err, m.name)
	took := time.Since(begun)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s: %s", m.name, answer)
	m.took[calls[0].Class()] = append(m.took[calls[0].Class()], took)
	return string(answer)
}

// share is the time below which that share of the calls of a class was answered.
func (m *multiplexer) share(class engineapi.Class, percent int) time.Duration {
	all := slices.Sorted(slices.Values(m.took[class]))
	return all[len(all)*percent/100]
}

func payloadBody(b eltest.Block) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"engine_newPayloadV4","params":[%s,[],"%s",[]]}`,
		b.Number, eltest.Payload(b), common.Hash{})
}

// buildBody is a forkchoice to a block with attributes for the next one.
func buildBody(b eltest.Block) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"engine_forkchoiceUpdatedV3","params":[{"headBlockHash":"%s",`+
		`"safeBlockHash":"%s","finalizedBlockHash":"%s"},{"timestamp":"0x%x","prevRandao":"%s",`+
		`"suggestedFeeRecipient":"0x00000000000000000000000000000000000000fe","withdrawals":[],"parentBeaconBlockRoot":"%s"}]}`,
		b.Number, b.Hash, common.Hash{}, common.Hash{}, b.Timestamp+12, common.Hash{1}, common.Hash{2})
}

// slot shows a block to both and makes it the head, in turn; their answers must be the same.
func slot(t *testing.T, both [2]*multiplexer, b eltest.Block) {
	t.Helper()
	for _, body := range [][]byte{payloadBody(b), forkchoiceBody(b.Number, b.Hash)} {
		first, second := both[b.Number%2], both[1-b.Number%2]
		require.Equal(t, first.post(t, body), second.post(t, body))
	}
}

// Users of cl-proxy change one word: the same flags, the same answers, and the secondary gets the same calls.
func TestEngineTakesThePlaceOfClProxy(t *testing.T) {
	primary := started(t)
	both := multiplexers(t, primary)
	head := eltest.GenesisBlock
	const slots = 20
	for range slots {
		head = eltest.Child(head, 1)
		slot(t, both, head)
		built := buildBody(head)
		answer := both[0].post(t, built)
		require.Equal(t, answer, both[1].post(t, built))
		id := engineapi.ParseResult(http.StatusOK, []byte(answer)).PayloadID
		require.NotEmpty(t, id)
		get := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"engine_getPayloadV4","params":["%s"]}`, id)
		require.Equal(t, both[0].post(t, get), both[1].post(t, get))
		// At the pace of slots, as without a secret of its own a secondary gets live calls only.
		for _, m := range both {
			eventually(t, 10*time.Second, func() bool { return m.secondary.Head() == head }, "the secondary of %s is at block %d", m.name, head.Number)
		}
	}
	for _, m := range both {
		require.Equal(t, told(t, both[0].secondary), told(t, m.secondary), "what its secondary was told by %s", m.name)
		require.Empty(t, m.secondary.CallsOf(engineapi.ClassPayload), "a payload id is the primary's")
	}
}

// told is what a client was told, each payload and each head once: repetitions may be left out. Nothing has attributes.
func told(t *testing.T, f *eltest.Fake) (all []string) {
	t.Helper()
	for _, s := range f.CallsOf(engineapi.ClassReplay, engineapi.ClassForkchoice) {
		var c struct {
			Method string
			Params []any
		}
		require.NoError(t, json.Unmarshal(s.Call.Raw, &c))
		if s.Call.Class() == engineapi.ClassForkchoice {
			require.Len(t, c.Params, 2)
			require.Nil(t, c.Params[1], "attributes were sent")
		}
		if text := fmt.Sprint(c.Method, c.Params); len(all) == 0 || all[len(all)-1] != text {
			all = append(all, text)
		}
	}
	return all
}

// Side by side: a secondary that answers after 3 s adds 3 s to what the consensus client waits for behind cl-proxy, and
// nothing behind this engine.
func TestEngineASlowSecondaryDelaysClProxyOnly(t *testing.T) {
	primary := started(t)
	both := multiplexers(t, primary)
	head := eltest.GenesisBlock
	run := func(what string, slots int, send func(b eltest.Block), of ...*multiplexer) {
		for _, m := range of {
			clear(m.took)
		}
		for range slots {
			head = eltest.Child(head, 2)
			send(head)
			nap(t, viewPause)
		}
		for _, m := range of {
			for class, name := range map[engineapi.Class]string{engineapi.ClassReplay: "newPayload", engineapi.ClassForkchoice: "forkchoiceUpdated"} {
				report(t, "%s, %s: %d %s p50 %s p99 %s", what, m.name, slots, name, m.share(class, 50), m.share(class, 99))
			}
		}
	}
	inTurn := func(b eltest.Block) { slot(t, both, b) }
	theirs, ours := both[0], both[1]
	run("warm-up", 50, inTurn, both[:]...)
	run("healthy secondary", 500, inTurn, both[:]...)
	for _, m := range both {
		m.secondary.Fail(eltest.Fault{Latency: slowSecondary})
	}
	slots := 5
	if soak() {
		slots = 20
	}
	run("secondary of 3 s", slots, inTurn, both[:]...)
	classes := []engineapi.Class{engineapi.ClassReplay, engineapi.ClassForkchoice}
	for _, class := range classes {
		require.GreaterOrEqual(t, theirs.share(class, 50), slowSecondary)
		require.Less(t, ours.share(class, 99), slowSecondary/10)
	}
	// In turn, this engine too is called only every few seconds; by itself it is called as often as before.
	run("secondary of 3 s, alone", 500, func(b eltest.Block) {
		ours.post(t, payloadBody(b))
		ours.post(t, forkchoiceBody(b.Number, b.Hash))
	}, ours)
	for _, class := range classes {
		require.Less(t, ours.share(class, 99), slowSecondary/10)
	}
}
