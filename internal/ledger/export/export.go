package export

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"millrace/internal/order"
)

// Log is one of the streams that are exported.
type Log uint8

// The logs.
const (
	LogRecord   Log = iota + 1 // the orders as they came in
	LogDone                    // terminal records of targets
	LogRejected                // terminal records of orders that ended before delivery
)

var logNames = [...]string{"", "record", "done", "rejected"}

// String is the log in file names and reports.
func (l Log) String() string { return logNames[l] }

// ParseLog returns the log of that name; ok is false for any other.
func ParseLog(name string) (l Log, ok bool) {
	i := slices.Index(logNames[:], name)
	return Log(max(i, 0)), i > 0 //nolint:gosec // four names
}

// The datasets.
const (
	DatasetBundles  = "bundles"
	DatasetReceipts = "bundle_receipts"
	DatasetLedger   = "ledger"
)

// Datasets lists every dataset.
func Datasets() []string { return []string{DatasetBundles, DatasetReceipts, DatasetLedger} }

// Message is one message of a log. Batch is set for the ledger's, Order for RECORD's.
type Message struct {
	Sequence uint64
	StoredAt time.Time
	// Order is nil for a message that is none.
	Order *order.Order
	// Batch are Target's terminal records.
	Target string
	Batch  []byte
}

// Span is what a log holds, and which one it is.
type Span struct {
	First, Last uint64    // sequences; Last is zero when there never was a message
	Created     time.Time // of the stream
	Node        string    // name of the node that was asked
	MaxTxs      int       // its orders.max_txs; zero: the default
}

// Reader reads a log. It calls open once, then each with the messages from sequence from on, stored
// or received since, in order of their sequences and up to Span.Last; an error of either ends it and
// is returned. Messages that are void or can't be read may be left out, and nothing else; the returned
// sequence is the log's first one after the reading, so that it shows what went in the meantime.
// ErrNoLog: there is no such log.
type Reader interface {
	Read(ctx context.Context, l Log, from uint64, since time.Time, open func(Span) error, each func(*Message) error) (first uint64, err error)
}

// Errors of an export.
var (
	// ErrConfig is a configuration that can't be meant.
	ErrConfig = errors.New("export can't be done")
	// ErrNoLog: the node keeps no such log.
	ErrNoLog = errors.New("no such log")
	// ErrOtherStream: the files are of another stream than the one that is read.
	ErrOtherStream = errors.New("files are of another stream")
	// ErrLocked: another export writes there.
	ErrLocked = errors.New("another export writes there")
	// ErrFiles: the files there contradict each other or what they say of themselves.
	ErrFiles = errors.New("files can't be continued")
)

// Config says what is exported, and where to.
type Config struct {
	Out      string   // folder, made if missing
	Datasets []string // of Datasets

	// Since: orders received and records stored since, where there are no files yet or they end
	// before. Until: what was recorded before. Zero: no bound.
	Since, Until time.Time
	// Poll is how often a log is looked at again; zero: once, then the export ends.
	Poll time.Duration

	MaxRows  int64         // of a file
	MaxBytes int64         // of a file; about, and never by more than a row more
	MaxAge   time.Duration // of a file's first row until it has its name

	// Builder is the name under which this node's rows go; empty: the name of the node that is read.
	Builder string
	// Trouble hears why a log could not be read, where the export goes on nevertheless; nil: nobody.
	Trouble func(error)
	// Version of the program, for the files' footers.
	Version string
}

// Validate reports every fault.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Out == "" {
		fault("no folder to write to")
	}
	if len(c.Datasets) == 0 {
		fault("no dataset, there are %s", strings.Join(Datasets(), ", "))
	}
	for i, d := range c.Datasets {
		if !slices.Contains(Datasets(), d) {
			fault("no dataset %q, there are %s", d, strings.Join(Datasets(), ", "))
		}
		if slices.Contains(c.Datasets[:i], d) {
			fault("dataset %s twice", d)
		}
	}
	if c.MaxRows < 1 || c.MaxBytes < 1 || c.MaxAge <= 0 {
		fault("a file's rows, bytes and age must be above zero")
	}
	if c.Poll < 0 {
		fault("the poll interval is negative")
	}
	if !c.Since.IsZero() && !c.Until.IsZero() && !c.Since.Before(c.Until) {
		fault("nothing is since %s and until %s", c.Since.Format(time.RFC3339), c.Until.Format(time.RFC3339))
	}
	if c.Poll > 0 && !c.Until.IsZero() {
		fault("an export that goes on has no end")
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}
