//go:build e2e && linux

package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/crypto/kzg4844"
	"github.com/holiman/uint256"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/eltest/drive"
	"millrace/internal/engineapi"
	"millrace/subjects"
)

// withTransactions is how long a client has to build so that it picks up what is in its pool.
const withTransactions = 300 * time.Millisecond

// newLossy is newGeths whose record a test can take away.
func newLossy(t *testing.T, schemes ...eltest.Scheme) (b *geths, lose func()) {
	t.Helper()
	addr := freeAddr(t)
	b = newGethsWith(t, []string{"--nats.listen=" + addr}, schemes...)
	b.buildWait = withTransactions
	return b, func() {
		t.Helper()
		key, err := nats.NkeyOptionFromSeed(filepath.Join(b.engine.dir, "data", "auth", "admin.nk"))
		require.NoError(t, err)
		nc, err := nats.Connect("nats://"+addr, key)
		require.NoError(t, err)
		defer nc.Close()
		js, err := jetstream.New(nc)
		require.NoError(t, err)
		s, err := js.Stream(t.Context(), subjects.StreamEngine)
		require.NoError(t, err)
		require.NoError(t, s.Purge(t.Context()))
		// Nothing of it is left in a memory either.
		b.engine.stop(t)
		b.engine.up(t)
	}
}

// account is one of the genesis files'. Nonces are its own count.
type account struct {
	key   *ecdsa.PrivateKey
	nonce uint64
}

func newAccount(t *testing.T, name string) *account {
	t.Helper()
	key, err := crypto.ToECDSA(crypto.Keccak256([]byte(name)))
	require.NoError(t, err)
	return &account{key: key}
}

// send puts a transaction into a client's pool.
func (a *account) send(t *testing.T, to drive.Endpoint, tx types.TxData) {
	t.Helper()
	signed, err := types.SignNewTx(a.key, types.LatestSignerForChainID(big.NewInt(eltest.DefaultChainID)), tx)
	require.NoError(t, err)
	raw, err := signed.MarshalBinary()
	require.NoError(t, err)
	_, err = to.Call(t.Context(), "eth_sendRawTransaction", hexutil.Encode(raw))
	require.NoError(t, err)
	a.nonce++
}

// transfer is a transaction with some data.
func (a *account) transfer(to common.Address, value int64, data []byte) types.TxData {
	return &types.DynamicFeeTx{
		ChainID: big.NewInt(eltest.DefaultChainID), Nonce: a.nonce, To: &to, Value: big.NewInt(value), Data: data,
		Gas: 500_000, GasFeeCap: big.NewInt(100_000_000_000), GasTipCap: big.NewInt(1_000_000_000),
	}
}

// blob is a transaction with one blob, in the form that Osaka takes.
func (a *account) blob(t *testing.T) types.TxData {
	t.Helper()
	blob := kzg4844.Blob{1: 7}
	commitment, err := kzg4844.BlobToCommitment(&blob)
	require.NoError(t, err)
	proofs, err := kzg4844.ComputeCellProofs(&blob)
	require.NoError(t, err)
	side := types.NewBlobTxSidecar(types.BlobSidecarVersion1, []kzg4844.Blob{blob}, []kzg4844.Commitment{commitment}, proofs)
	return &types.BlobTx{
		ChainID: uint256.NewInt(eltest.DefaultChainID), Nonce: a.nonce, To: common.Address{9}, Gas: 500_000,
		GasFeeCap: uint256.NewInt(100_000_000_000), GasTipCap: uint256.NewInt(1_000_000_000), BlobFeeCap: uint256.NewInt(1_000_000_000),
		BlobHashes: side.BlobHashes(), Sidecar: side,
	}
}

// clientStatus is a client's line of engine status.
type clientStatus struct {
	Target, State, Reason string
	Number                uint64
	Gap                   json.RawMessage
}

// client is a client's status by name.
func (b *geths) client(t *testing.T, name string) clientStatus {
	t.Helper()
	_, body := get(b.engine.admin + "/engine")
	var status struct{ Clients []clientStatus }
	if json.Unmarshal([]byte(body), &status) == nil {
		for _, c := range status.Clients {
			if c.Target == name {
				return c
			}
		}
	}
	return clientStatus{}
}

// filled is how many blocks each client was to get from the primary, as the engine's log has it.
func (b *geths) filled(t *testing.T) map[string]int {
	t.Helper()
	log, err := os.ReadFile(b.engine.log)
	require.NoError(t, err)
	all := map[string]int{}
	for line := range bytes.Lines(log) {
		var e struct{ Target, Reason string }
		var n int
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		if _, err := fmt.Sscanf(e.Reason, "gap: %d blocks from the primary", &n); err == nil {
			all[e.Target] = max(all[e.Target], n)
		}
	}
	return all
}

// What the record lost comes from the primary: to a client that was stopped, wherever the network went from its head,
// and to a fresh one through every fork, with transactions and a blob.
func TestEngineFillsAGapInTheRecordFromARealPrimary(t *testing.T) {
	beside(t)
	b, lose := newLossy(t, eltest.SchemeHash, eltest.SchemeHash, eltest.SchemeHash)
	d := b.driver(t, nil, engineapi.Secret{})
	primary := drive.Endpoint{URL: b.nodes[0].URL(), Secret: testSecret(t, 1)}
	faucet, blobber := newAccount(t, "engine-drv faucet"), newAccount(t, "engine-drv blobber")
	step := func(n int) {
		for range n {
			faucet.send(t, primary, faucet.transfer(common.Address{7}, 1, nil))
			require.NoError(t, d.Random(t.Context()))
		}
	}
	for range 8 { // deep enough that b's chain is never left altogether
		require.NoError(t, d.Step(t.Context()))
	}
	b.together(t, d, 0, 1, 2)
	b.nodes[1].Stop()
	b.nodes[2].Stop()
	require.NoError(t, b.nodes[2].Wipe())
	step(6) // into Amsterdam
	blobber.send(t, primary, blobber.blob(t))
	step(8)
	result, err := primary.Call(t.Context(), "eth_getTransactionCount", crypto.PubkeyToAddress(blobber.key.PublicKey).Hex(), "latest")
	require.NoError(t, err)
	require.Equal(t, `"0x1"`, string(result), "the blob is in a block")
	lose()
	step(3)
	require.NoError(t, b.nodes[1].Start(t.Context()))
	require.NoError(t, b.nodes[2].Start(t.Context()))
	t.Logf("at block %d after %s", d.Head().Number, b.together(t, d, 0, 1, 2))
	filled := b.filled(t)
	t.Logf("blocks from the primary: %v", filled)
	require.Greater(t, filled["c"], filled["b"], "only what a client lacks")
	require.NotZero(t, filled["b"])
	step(3) // and they go on from the record
	b.together(t, d, 0, 1, 2)
	for _, name := range []string{"b", "c"} {
		require.Equal(t, "live", b.client(t, name).State)
	}
}

// withdrawals is where EIP-7002 takes requests.
var withdrawals = common.HexToAddress("0x00000961Ef480Eb55e80D19ad83579A64c007002")

// Execution requests are in no answer of any client: with a block that has some the gap stays, and says so.
func TestEngineNamesAGapThatCanNotBeFilled(t *testing.T) {
	beside(t)
	b, lose := newLossy(t, eltest.SchemeHash, eltest.SchemeHash)
	d := b.driver(t, nil, engineapi.Secret{})
	for range 12 {
		require.NoError(t, d.Step(t.Context()))
	}
	b.together(t, d, 0, 1)
	b.nodes[1].Stop()
	stopped := d.Head()
	primary := drive.Endpoint{URL: b.nodes[0].URL(), Secret: testSecret(t, 1)}
	faucet := newAccount(t, "engine-drv faucet")
	faucet.send(t, primary, faucet.transfer(withdrawals, 1_000_000, make([]byte, 48+8)))
	for range 5 {
		require.NoError(t, d.Step(t.Context()))
	}
	lose()
	require.NoError(t, d.Step(t.Context()))
	require.NoError(t, b.nodes[1].Start(t.Context()))
	eventually(t, converge, func() bool { return b.client(t, "b").State == "follow" }, "the gap is named")
	s := b.client(t, "b")
	t.Logf("%s: %s", s.State, s.Reason)
	require.Regexp(t, `^gap: .*not filled: block \d+: a block has execution requests, which no client gives back$`, s.Reason)
	require.NotEmpty(t, s.Gap)
	require.NoError(t, d.Step(t.Context()))
	require.Equal(t, "follow", b.client(t, "b").State)
	require.True(t, at(t, drive.Endpoint{URL: b.nodes[1].URL(), Secret: testSecret(t, 2)}, stopped), "it is not brought half of the way")
}
