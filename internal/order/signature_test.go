package order

import (
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/flashbots/go-utils/signature"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The published vectors of go-utils: signatures over the body "Hello".
func TestRecoverSignerTakesTheFieldsVectors(t *testing.T) {
	for _, tc := range []struct{ tool, address, signature string }{
		{"MetaMask", "0x4bE0Cd2553356b4ABb8b6a1882325dAbC8d3013D", "0xbf36915334f8fa93894cd54d491c31a89dbf917e9a4402b2779b73d21ecf46e36ff07db2bef6d10e92c99a02c1c5ea700b0b674dfa5d3ce9220822a7ebcc17101b"},
		{"cast", "0x2485Aaa7C5453e04658378358f5E028150Dc7606", "0xff2aa92eb8d8c2ca04f1755a4ddbff4bda6a5c9cefc8b706d5d8a21d3aa6fe7a20d3ec062fb5a4c1656fd2c14a8b33ca378b830d9b6168589bfee658e83745cc1b"},
		{"ethers", "0x96216849c49358B10257cb55b28eA603c874b05E", "0x1446053488f02d460c012c84c4091cd5054d98c6cfca01b65f6c1a72773e80e60b8a4931aeee7ed18ce3adb45b2107e8c59e25556c1f871a8334e30e5bddbed21c"},
	} {
		signer, err := RecoverSigner(tc.address+":"+tc.signature, []byte("Hello"))
		require.NoError(t, err, tc.tool)
		require.Equal(t, common.HexToAddress(tc.address), signer)
	}
	header, err := Sign(testKey(t), []byte("Hello"))
	require.NoError(t, err)
	require.Equal(t, "0x96216849c49358b10257cb55b28ea603c874b05e:0x1446053488f02d460c012c84c4091cd5054d98c6cfca01b65f6c1a72773e80e60b8a4931aeee7ed18ce3adb45b2107e8c59e25556c1f871a8334e30e5bddbed21c", header)
}

func TestRecoverSignerAgreesWithGoUtils(t *testing.T) {
	key := testKey(t)
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		header, err := Sign(key, body)
		require.NoError(t, err)
		theirs, err := signature.Verify(header, body)
		require.NoError(t, err)
		ours, err := RecoverSigner(header, body)
		require.NoError(t, err)
		require.Equal(t, theirs, ours)

		// One flipped byte anywhere is refused, or is only another way to write the same.
		i := rapid.IntRange(0, len(header)-1).Draw(t, "at")
		flipped := []byte(header)
		flipped[i] ^= 1 << rapid.IntRange(0, 6).Draw(t, "bit")
		if ours, err := RecoverSigner(string(flipped), body); err == nil {
			require.Equal(t, theirs, ours)
			signed := len(header) - len("1c") // a recovery id of either parity has many writings
			require.True(t, strings.EqualFold(header[:signed], string(flipped[:signed])), string(flipped))
		}
	})
}

func TestRecoverSignerTakesEveryWritingOfASignature(t *testing.T) {
	body := []byte("Hello")
	header, err := Sign(testKey(t), body)
	require.NoError(t, err)
	address, sig, _ := strings.Cut(header, ":")
	parity := sig[len(sig)-2:] // 1b or 1c
	require.Equal(t, "1c", parity)
	rs := sig[:len(sig)-2]
	for _, v := range []string{"01", "1c", "24", "26"} {
		signer, err := RecoverSigner(address+":"+rs+v, body)
		require.NoError(t, err, v)
		require.Equal(t, crypto.PubkeyToAddress(testKey(t).PublicKey), signer)
	}
	for _, header := range []string{
		strings.TrimPrefix(address, "0x") + ":" + strings.TrimPrefix(sig, "0x"),
		"0x" + strings.ToUpper(address[2:]) + ":0x" + strings.ToUpper(sig[2:]),
	} {
		_, err := RecoverSigner(header, body)
		require.NoError(t, err, header)
		claimed, ok := ClaimedSigner(header)
		require.True(t, ok)
		require.Equal(t, common.HexToAddress(address), claimed)
	}
}

func TestRecoverSignerRefusesEverythingElse(t *testing.T) {
	body := []byte("Hello")
	header, err := Sign(testKey(t), body)
	require.NoError(t, err)
	address, sig, _ := strings.Cut(header, ":")
	raw := common.FromHex(sig)
	highS := new(big.Int).Sub(crypto.S256().Params().N, new(big.Int).SetBytes(raw[32:64])).FillBytes(make([]byte, 32))
	malleable := address + ":" + hexOf(append(append(append([]byte(nil), raw[:32]...), highS...), raw[64]^7))

	_, err = RecoverSigner("", body)
	require.ErrorIs(t, err, ErrNoSignature)
	for name, header := range map[string]string{
		"no colon":           "invalid",
		"extra bytes":        header + "deadbeef",
		"missing bytes":      header[:len(header)-8],
		"short address":      address[:40] + ":" + sig,
		"long address":       address + "00:" + sig,
		"no hex in address":  address[:41] + "g:" + sig,
		"no hex in sig":      header[:len(header)-3] + "g1b",
		"another address":    "0x0000000000000000000000000000000000000001:" + sig,
		"v between":          header[:len(header)-2] + "02",
		"v of 34":            header[:len(header)-2] + "22",
		"other parity":       header[:len(header)-2] + "1b",
		"zero signature":     address + ":0x" + strings.Repeat("0", 130),
		"high s":             malleable,
		"doubled hex prefix": "0x" + header,
	} {
		_, err := RecoverSigner(header, body)
		require.ErrorIs(t, err, ErrSignature, name)
	}
	for _, other := range []string{"", "{}", "Hello...", "Hell"} {
		_, err := RecoverSigner(header, []byte(other))
		require.ErrorIs(t, err, ErrSignature, other)
	}
	_, ok := ClaimedSigner("x:y")
	require.False(t, ok)
}
