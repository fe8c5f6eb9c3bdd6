package socket

import (
	"context"
	"sync"
)

// queue is a connection's messages that are to be written. It holds at most messages and bytes; a message that is
// too large by itself fits when it is alone. Notifications that find it full are refused, replies wait.
type queue struct {
	messages, bytes int

	mu      sync.Mutex
	waiting [][]byte
	count   int           // of waiting and of what is being written
	held    int           // the bytes of these
	filled  chan struct{} // says that something waits; holds one
	room    chan struct{} // closed and made anew when something was written while starved
	starved bool          // somebody waits for room
}

func newQueue(messages, bytes int) *queue {
	return &queue{messages: messages, bytes: bytes, filled: make(chan struct{}, 1), room: make(chan struct{})}
}

// offer takes a message if there is room.
func (q *queue) offer(b []byte) bool {
	ok, _ := q.put(b)
	return ok
}

// put takes a message; if there is no room it returns what is closed when that may have changed.
func (q *queue) put(b []byte) (ok bool, room <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.count >= q.messages || (q.held > 0 && q.held+len(b) > q.bytes) {
		q.starved = true
		return false, q.room
	}
	q.waiting = append(q.waiting, b)
	q.count++
	q.held += len(b)
	select {
	case q.filled <- struct{}{}:
	default:
	}
	return true, nil
}

// wait takes a message when there is room; false: ctx ended before.
func (q *queue) wait(ctx context.Context, b []byte) bool {
	for {
		ok, room := q.put(b)
		if ok {
			return true
		}
		select {
		case <-room:
		case <-ctx.Done():
			return false
		}
	}
}

// take returns all that waits; swap is an emptied slice of the last time, to be used again.
func (q *queue) take(swap [][]byte) [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch := q.waiting
	q.waiting = swap
	return batch
}

// written makes room for what the message took.
func (q *queue) written(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.count--
	q.held -= n
	if q.starved {
		close(q.room)
		q.room, q.starved = make(chan struct{}), false
	}
}

// idle says whether everything was written, and if not, what is closed when that may have changed.
func (q *queue) idle() (bool, <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.starved = true
	return q.count == 0, q.room
}
