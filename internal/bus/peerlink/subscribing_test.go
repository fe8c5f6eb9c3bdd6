//go:build !race

package peerlink

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"
)

// The server's options are loaded anew with each set of peers, and whoever subscribes meanwhile must find
// all accounts whole. Not under the race detector: the server writes a pointer again that is there already, without the
// lock under which it is read.
func TestSubscribingWhilePeersComeAndGo(t *testing.T) {
	a := start(t, "a")
	id := issue(t, t.TempDir(), "b", time.Now().Add(time.Hour), nil)
	other := issue(t, t.TempDir(), "c", time.Now().Add(time.Hour), nil)
	b, c := Peer{Name: "b", Pins: []string{id.pin}}, Peer{Name: "c", Pins: []string{other.pin}}
	a.set(t, b)
	leaf := dialLeaf(t, a, id, "high")
	leaf.await(t, "INFO")
	background(t, func(ctx context.Context) error {
		for ctx.Err() == nil {
			if _, err := io.WriteString(leaf.conn, strings.Repeat("LS+ dlv.a.b.high\r\nLS- dlv.a.b.high\r\n", 50)); err != nil {
				return err
			}
		}
		return nil
	})
	for range 20 {
		a.set(t, b, c)
		a.set(t, b)
	}
	leaf.settled(t)
}
