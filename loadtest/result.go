package loadtest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/order"
)

// Answer says what the sender knows about one order.
type Answer uint8

// The answers.
const (
	AnswerAccepted Answer = iota + 1 // a result: from here on the promise holds
	AnswerRefused                    // the order itself is at fault; must never reach a builder
	AnswerShed                       // 429 or 503: come back later
	AnswerError                      // any other error answer
	AnswerUnknown                    // written, but the answer was lost: may be stored or not
	AnswerUnsent                     // never written
)

var answerNames = [...]string{"", "accepted", "refused", "shed", "error", "unknown", "unsent"}

// String is the answer in reports.
func (a Answer) String() string {
	if a == 0 || int(a) >= len(answerNames) {
		return fmt.Sprintf("unknown_%d", uint8(a))
	}
	return answerNames[a]
}

// MarshalText is the name.
func (a Answer) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Result is what became of one order at the door.
type Result struct {
	Tag    Tag
	Shape  Shape
	Answer Answer
	Signer common.Address
	UUID   order.UUID
	Nonce  uint64
	Hash   common.Hash // the door's public id; of a transaction known before, else zero without a result
	// Intended is when the schedule wanted it sent (closed loop: when it was sent), Sent when it
	// was first written, Done when its last answer was read.
	Intended, Sent, Done time.Time
	// Latency counts from Intended when no connection was free then, else from Sent, to Done.
	Latency time.Duration
	// Scheduled says that an open loop had a connection free at the intended time; Late is how much
	// later the generator itself woke up, which is no part of Latency.
	Scheduled bool
	Late      time.Duration
	// Waited is how long the order waited for a free connection, which is part of Latency.
	Waited   time.Duration
	Received time.Time // the door's receivedTimestampMs
	Attempts int       // requests written
	// MayRepeat says that an earlier attempt got no answer, so the order may be stored twice.
	MayRepeat  bool
	Status     int // HTTP status of the last answer; zero without one
	Code       int // JSON-RPC error code of the last answer
	RetryAfter bool
	Reason     string // error.data, or the transport's error
	Txs        int
	Repeats    int
	Sources    []uint64 // orders that first brought the repeated transactions
	Size       int
}

// journalChunk is how many results lie in one piece: growing one slice would copy all of them while
// the senders wait.
const journalChunk = 4096

// Journal collects results; safe for concurrent use.
type Journal struct {
	mu     sync.Mutex
	chunks [][]Result
	counts [AnswerUnsent + 1]int
}

func (j *Journal) add(r Result) {
	j.mu.Lock()
	defer j.mu.Unlock()
	last := len(j.chunks) - 1
	if last < 0 || len(j.chunks[last]) == journalChunk {
		j.chunks = append(j.chunks, make([]Result, 0, journalChunk))
		last++
	}
	j.chunks[last] = append(j.chunks[last], r)
	j.counts[r.Answer]++
}

// Results returns what was collected up to now, a copy, in order of completion.
func (j *Journal) Results() []Result {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Concat(j.chunks...)
}

// Forget lets go of the results that were complete before a time, so that a run of any length takes
// bounded memory. The counts keep them.
func (j *Journal) Forget(before time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	kept := j.chunks[:0]
	for _, chunk := range j.chunks {
		chunk = slices.DeleteFunc(chunk, func(r Result) bool { return r.Done.Before(before) })
		if len(chunk) > 0 {
			kept = append(kept, chunk)
		}
	}
	clear(j.chunks[len(kept):])
	j.chunks = kept
}

// Answered returns how many results there are.
func (j *Journal) Answered() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, c := range j.counts {
		n += c
	}
	return n
}

// Count returns how many orders got the given answer up to now.
func (j *Journal) Count(a Answer) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.counts[a]
}
