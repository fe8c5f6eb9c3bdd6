package rpcapi

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestANodesURISaysAllAboutIt(t *testing.T) {
	n, err := ParseNode("http://user:secret@127.0.0.1:8545/path/?_workers=4&key=x")
	require.NoError(t, err)
	require.Equal(t, 4, n.Workers)
	require.Equal(t, "http://user:secret@127.0.0.1:8545/path/?key=x", n.URL.String())
	require.Regexp(t, "^127.0.0.1:8545/path#[0-9a-f]{8}$", n.Label)
	require.Equal(t, "http://user:secret@127.0.0.1:8545/path/?_workers=4&key=x", n.URI)
	require.Zero(t, n.Pin)
	none, err := ParseNode("http://127.0.0.1:8545?_workers=0")
	require.NoError(t, err)
	require.Equal(t, NoWorkers, none.Workers)
}

func TestAPinIsNeverPartOfWhatIsDialled(t *testing.T) {
	for kind, prefix := range map[PinKind]string{PinTDX: "TDX", PinSGX: "SGX", PinSEV: "SEV"} {
		n, err := ParseNode("https://" + prefix + "_abc-_1@node.example:8545")
		require.NoError(t, err)
		require.Equal(t, Pin{Kind: kind, Value: "abc-_1"}, n.Pin)
		require.Equal(t, "https://node.example:8545", n.URL.String())
		require.Equal(t, prefix, kind.String())
	}
	_, err := ParseNode("http://TDX_abc@node.example:8545")
	require.ErrorIs(t, err, ErrPinScheme)
}

func TestANodesTagDependsOnWhereItIsDialledOnly(t *testing.T) {
	a, err := ParseNode("http://127.0.0.1:8545")
	require.NoError(t, err)
	b, err := ParseNode("http://127.0.0.1:8545/?_workers=3")
	require.NoError(t, err)
	c, err := ParseNode("http://127.0.0.1:8546")
	require.NoError(t, err)
	require.Equal(t, a.Tag, b.Tag)
	require.NotEqual(t, a.Tag, c.Tag)
	require.NotZero(t, a.Tag)
}

func TestWhatIsNoNodeIsRefusedWithoutItsSecrets(t *testing.T) {
	for uri, want := range map[string]error{
		"":                                ErrNodeURI,
		"127.0.0.1:8545":                  ErrNodeURI,
		"http://":                         ErrNodeURI,
		"ftp://u:secret@127.0.0.1":        ErrNodeScheme,
		"http://u:secret@h?_workers=many": ErrNodeWorkers,
		"http://u:secret@h?_workers=-1":   ErrNodeWorkers,
	} {
		_, err := ParseNode(uri)
		require.ErrorIs(t, err, want, uri)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestEveryErrorHasAReason(t *testing.T) {
	require.Equal(t, ReasonQueueFull, ReasonOf(fmt.Errorf("low: %w", ErrQueueFull)))
	require.Equal(t, ReasonNodeError, ReasonOf(&NodeError{Status: 479}))
	require.Equal(t, ReasonCanceled, ReasonOf(context.Canceled))
	require.Equal(t, ReasonInternal, ReasonOf(errors.New("x")))
}

func FuzzParseNode(f *testing.F) {
	f.Add("https://SGX_00@h:1/p?_workers=3")
	f.Fuzz(func(t *testing.T, uri string) {
		n, err := ParseNode(uri)
		if err != nil {
			return
		}
		require.NotZero(t, n.Tag)
		again, err := ParseNode(n.URL.String())
		require.NoError(t, err)
		require.Equal(t, n.Tag, again.Tag)
	})
}
