package order

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"pgregory.net/rapid"
)

// generatedBundle is a random v2 bundle that Decode must take.
type generatedBundle struct {
	block, percent             *uint64
	minTimestamp, maxTimestamp *uint64
	txs, reverting, dropping   [][]byte
	uuid                       string
	nonce                      uint64
	recipient                  []byte
	unknown                    []string // members, as written
}

func generateBundle(t *rapid.T) generatedBundle {
	blob := func(n, m int) *rapid.Generator[[]byte] { return rapid.SliceOfN(rapid.Byte(), n, m) }
	number := rapid.Ptr(rapid.Uint64(), true)
	g := generatedBundle{
		block:        number.Draw(t, "block"),
		percent:      rapid.Ptr(rapid.Uint64Range(0, 99), true).Draw(t, "percent"),
		minTimestamp: number.Draw(t, "minTimestamp"),
		maxTimestamp: number.Draw(t, "maxTimestamp"),
		txs:          rapid.SliceOfN(blob(1, 80), 1, 6).Draw(t, "txs"),
		reverting:    rapid.SliceOfN(blob(32, 32), 0, 4).Draw(t, "reverting"),
		dropping:     rapid.SliceOfN(blob(32, 32), 0, 4).Draw(t, "dropping"),
	}
	if rapid.Bool().Draw(t, "replaceable") {
		b := blob(16, 16).Filter(func(b []byte) bool { return UUID(b) != UUID{} }).Draw(t, "uuid")
		g.uuid = UUID(b).String()
		g.nonce = rapid.Uint64().Draw(t, "nonce")
	}
	if rapid.Bool().Draw(t, "recipient") {
		g.recipient = blob(20, 20).Draw(t, "recipient")
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "unknown") {
		value := rapid.SampledFrom([]string{
			`null`, `"a\u0041\"}, ]"`, `[1, 2 ,{"txs":[ ]}]`, `{ "signingAddress" : 1.50e+3 }`, `-0.0`, `true`, `""`, `"é,"`,
		}).Draw(t, "value")
		space := rapid.SampledFrom([]string{"", " ", "\n\t"}).Draw(t, "space")
		g.unknown = append(g.unknown, fmt.Sprintf(`"x%d"%s:%s%s`, i, space, space, value))
	}
	return g
}

// json writes the bundle with its members in random order and with random white space.
func (g *generatedBundle) json(t *rapid.T) string {
	list := func(bs [][]byte) string {
		var parts []string
		for _, b := range bs {
			prefix := rapid.SampledFrom([]string{"0x", ""}).Draw(t, "prefix")
			text := hex.EncodeToString(b)
			if rapid.Bool().Draw(t, "upper") {
				text = strings.ToUpper(text)
			}
			parts = append(parts, `"`+prefix+text+`"`)
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	members := append([]string{`"txs":` + list(g.txs)}, g.unknown...)
	add := func(name, value string) { members = append(members, strconv.Quote(name)+":"+value) }
	number := func(name string, n *uint64) {
		if n != nil {
			add(name, strconv.FormatUint(*n, 10))
		}
	}
	if g.block != nil {
		add("blockNumber", rapid.SampledFrom([]string{
			fmt.Sprintf(`"0x%x"`, *g.block), fmt.Sprintf(`"0x%X"`, *g.block), fmt.Sprintf(`"%d"`, *g.block), fmt.Sprintf(`%d`, *g.block),
		}).Draw(t, "block"))
	}
	number("refundPercent", g.percent)
	number("minTimestamp", g.minTimestamp)
	number("maxTimestamp", g.maxTimestamp)
	if len(g.reverting) > 0 || rapid.Bool().Draw(t, "empty list") {
		add("revertingTxHashes", list(g.reverting))
	}
	if len(g.dropping) > 0 {
		add("droppingTxHashes", list(g.dropping))
	}
	if g.uuid != "" {
		add(rapid.SampledFrom([]string{"uuid", "replacementUuid"}).Draw(t, "name"), strconv.Quote(g.uuid))
		if rapid.Bool().Draw(t, "explicit nonce") {
			number("replacementNonce", &g.nonce)
		}
	}
	if g.recipient != nil {
		add("refundRecipient", `"0x`+hex.EncodeToString(g.recipient)+`"`)
	}
	for _, name := range []string{"signingAddress", "bundleHash", "version"} {
		switch {
		case !rapid.Bool().Draw(t, name):
		case name == "version":
			add(name, rapid.SampledFrom([]string{`"v2"`, `""`, `null`}).Draw(t, "version"))
		default:
			add(name, rapid.SampledFrom([]string{`"0x00"`, `{"a":[1]}`, `null`}).Draw(t, "overwritten"))
		}
	}
	members = rapid.Permutation(members).Draw(t, "order")
	space := rapid.SampledFrom([]string{"", " ", "\r\n "}).Draw(t, "space")
	return "{" + space + strings.Join(members, space+","+space) + space + "}"
}
