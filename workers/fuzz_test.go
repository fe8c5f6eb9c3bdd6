package workers

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/order"
	"millrace/subjects"
)

// FuzzStoredBody: whatever the stored bytes are, nothing panics, and the order ends exactly once.
func FuzzStoredBody(f *testing.F) {
	raw := sign(f, "a", legacyTx())
	for _, body := range []string{
		bundleBody("", raw), bundleBody(`,"replacementUuid":"` + testUUID + `"`), rawBody(raw),
		`{"jsonrpc":"2.0","id":1,"method":"eth_cancelBundle","params":[{"replacementUuid":"` + testUUID + `"}]}`,
		`{"jsonrpc":"2.0","id":1,"method":"mev_sendBundle","params":[{"version":"v0.1","inclusion":{"block":"0x1"},"body":[{"tx":` + hexOf(raw) + `}]}]}`,
		`{"id":1,"method":"eth_sendPrivateTransaction","params":[{"tx":` + hexOf(raw) + `}]}`,
		`[]`, `[{}]`, `{}`, ``, `null`, `{"method":"eth_sendBundle","params":[{"txs":null}]}`,
	} {
		f.Add(body, uint8(1))
	}
	rules := realRules(f)
	f.Fuzz(func(t *testing.T, body string, method uint8) {
		m := order.Method(method%6 + 1)
		o := accepted(t, m, body)
		s := newStore()
		p := start(t, s, 1, rules)
		err := p.deliver(delivery(o, 1))
		require.NotErrorIs(t, err, ErrPanic)
		if err != nil {
			require.NotNil(t, order.AsReason(err), err)
		}
		require.Equal(t, err == nil, s.ok[subjects.OKMsgID(o)] != nil)
		require.Equal(t, err != nil, len(s.records) == 1)
	})
}
