package main

import (
	"context"
	"sync"
	"time"

	"millrace/egress"
	"millrace/internal/bus"
	"millrace/internal/order"
)

// stopReceiving bounds how long Remove waits for a class's receiver to end.
const stopReceiving = time.Second

// feed is the bus's feed of one target, which stops receiving before its consumers are removed: the
// bus takes consumers that vanish under a receiver for lost, and would make them anew, to hold back
// purging for ever.
type feed struct {
	*bus.Feed

	mu        sync.Mutex
	removed   bool
	receivers []receiver
}

// receiver is one call of Receive.
type receiver struct {
	stop  context.CancelFunc
	ended chan struct{}
}

var _ egress.Feed = (*feed)(nil)

// Receive is the bus's, but stays silent from Remove on until ctx ends: to end before would mean
// that the feed is broken.
func (f *feed) Receive(ctx context.Context, p order.Priority, h func(order.Delivery)) error {
	own, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	f.mu.Lock()
	if f.removed {
		stop()
	}
	f.receivers = append(f.receivers, receiver{stop, ended})
	f.mu.Unlock()
	err := f.Feed.Receive(own, p, h)
	close(ended)
	if own.Err() == nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// Open is the bus's; it takes back an earlier Remove.
func (f *feed) Open(ctx context.Context) error {
	f.mu.Lock()
	f.removed, f.receivers = false, nil
	f.mu.Unlock()
	return f.Feed.Open(ctx)
}

// Remove stops the receivers and deletes the consumers. A receiver that hangs in its handler does
// not make consumers, so it is not waited for longer than stopReceiving.
func (f *feed) Remove(ctx context.Context) error {
	f.mu.Lock()
	f.removed = true
	receivers := f.receivers
	f.mu.Unlock()
	limit := time.NewTimer(stopReceiving)
	defer limit.Stop()
	for _, r := range receivers {
		r.stop()
	}
	for _, r := range receivers {
		select {
		case <-r.ended:
			continue
		case <-limit.C:
		case <-ctx.Done():
		}
		break
	}
	return f.Feed.Remove(ctx)
}
