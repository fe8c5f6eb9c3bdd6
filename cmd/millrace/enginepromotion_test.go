package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	replayer "millrace/egress/engine"
	"millrace/internal/eltest"
	"millrace/internal/eltest/drive"
)

// One call fails, the consensus client is silent, and the primary is well.
func TestFailoverLeavesAPrimaryThatAnswers(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, "--engine.failover=auto", "--engine.failover_after=1s")
	b.slots(t, 5)
	b.together(t, b.clients...)
	b.clients[0].Fail(eltest.Fault{Methods: []string{"eth_syncing"}, Times: 1, Status: http.StatusServiceUnavailable})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url("engine"), strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"eth_syncing","params":[]}`))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", b.secret.Authorization(time.Now()))
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	b.line("primary answers again", 1)
	require.Nil(t, b.log.find("secondary promoted", 1))
	require.Nil(t, b.log.find("failover", 1))
}

func TestFailoverPromotesWhenThePrimaryIsGoneForLong(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, "--engine.failover=auto", "--engine.failover_after=1s")
	network := newEL(t, 0x77, eltest.Config{})
	b.driver = drive.New(drive.Config{
		Target: b.endpoint(), Network: &drive.Endpoint{URL: network.URL(), Secret: network.secret}, Genesis: miniGenesis(t), BuildWait: time.Microsecond,
	})
	require.NoError(t, b.driver.Sync(t.Context()))
	b.slots(t, 5)
	b.together(t, b.clients...)
	b.clients[0].Stop()
	b.slots(t, 3)
	b.line("secondary promoted", 1)
	refused := b.driver.Refused()
	b.slots(t, 5)
	require.Equal(t, refused, b.driver.Refused(), "b answers")
	require.NoError(t, b.clients[0].Start())
	b.together(t, b.clients...)
}

func TestTheSuccessorIsTheHighestInSyncThenTheFirstByName(t *testing.T) {
	well := func(number uint64) replayer.Status {
		return replayer.Status{Role: replayer.Secondary, State: replayer.Live, Head: common.Hash{1}, Want: common.Hash{1}, Number: number}
	}
	first, behind := well(9), well(9)
	first.Role, behind.Want = replayer.Primary, common.Hash{2}
	for range 20 {
		require.Equal(t, []string{"d", "b", "c"}, successors(map[string]replayer.Status{"c": well(7), "b": well(7), "d": well(8), "a": first, "e": behind}))
	}
}

// choices notes what is stored, and fails when it is told to.
type choices struct {
	stored []string
	err    error
}

func (c *choices) SetPrimary(ctx context.Context, name string) error {
	c.stored = append(c.stored, name)
	if _, bounded := ctx.Deadline(); !bounded {
		return errors.New("without end")
	}
	return errors.Join(ctx.Err(), c.err)
}

func TestAChoiceThatMayHaveBeenStoredIsPutBack(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s := &choices{}
	require.NoError(t, putBack(ended, s, "primary"))
	require.Equal(t, []string{"primary"}, s.stored)
	s.err = errors.New("no answer")
	require.ErrorIs(t, putBack(ended, s, "primary"), s.err)
}

// The consensus client's tokens are signed with the primary's secret, and b has another.
func TestAPromotionThatWouldLockTheConsensusClientOutIsRefused(t *testing.T) {
	t.Parallel()
	b := undriven(t, 2, "--engine.auth=forward")
	b.secret = b.clients[0].secret
	b.drive(t)
	b.slots(t, 5)
	b.together(t, b.clients...)
	o := b.command(t, "engine", "promote", "b")
	require.NotEqual(t, exitOK, o.code)
	require.Contains(t, o.errors, "not known to be signed with this client's secret")
	b.slots(t, 3)
	b.together(t, b.clients...)
}
