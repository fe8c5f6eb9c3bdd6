package workers

import (
	"context"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto/kzg4844"

	"millrace/internal/order"
)

// yieldEvery is how often an order gives way while it waits for a check that runs aside.
const yieldEvery = 250 * time.Microsecond

// checkFunc checks one transaction and returns its hash.
type checkFunc func(raw []byte, kind order.Kind) (common.Hash, error)

// heavy reports whether a check may take milliseconds in one piece: only a sidecar's proofs do, and
// whatever brings one is larger than a blob.
func heavy(raw []byte) bool {
	return len(raw) > len(kzg4844.Blob{}) && raw[0] == types.BlobTxType
}

// check checks in the slot.
func (w *Worker) check(raw []byte, kind order.Kind) (common.Hash, error) {
	tx, err := w.rules.Check(raw, kind, w.ports.Clock.Now())
	return tx.Hash, err
}

// checkAside checks what is heavy on another goroutine, of which Worker.aside bounds how many run,
// and gives way again and again until that has ended: proofs can't be interrupted, so in the slot
// they would hold back every more urgent order for their whole time.
func (w *Worker) checkAside(ctx context.Context, o *order.Order, give func()) checkFunc {
	return func(raw []byte, kind order.Kind) (common.Hash, error) {
		if !heavy(raw) {
			return w.check(raw, kind)
		}
		var hash common.Hash
		ended := make(chan error, 1)
		go func() {
			w.aside <- struct{}{}
			defer func() { <-w.aside }()
			var err error
			hash, err = w.checkShared(ctx, o, raw, kind)
			ended <- err
		}()
		w.metrics.aside.Inc()
		w.alone.RUnlock() // the check holds it for itself
		defer w.alone.RLock()
		tick := time.NewTicker(yieldEvery)
		defer tick.Stop()
		for {
			select {
			case err := <-ended:
				return hash, err
			case <-tick.C:
				give()
			}
		}
	}
}

// checkShared checks beside other orders, never beside one that runs alone: while the order gives
// way, its slot does not hold the lock for it.
func (w *Worker) checkShared(ctx context.Context, o *order.Order, raw []byte, kind order.Kind) (hash common.Hash, err error) {
	defer w.recovered(ctx, o, &err)
	w.alone.RLock()
	defer w.alone.RUnlock()
	return w.check(raw, kind)
}
