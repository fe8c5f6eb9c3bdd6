// Package export writes what the bus recorded to Parquet files: bundles and receipts with the columns
// of FlowProxy's tables `bundles` and `bundle_receipts`, and the ledger's terminal records.
//
// # Files
//
// Each dataset has a folder, and each of its files holds the rows of one range of one stream:
// bundles/bundles-record-<first>-<last>.parquet. A file has its name only when it is whole: it is
// written under a hidden name beside it, synced, renamed, and then the folder is synced. So whoever
// sees *.parquet sees finished files, whatever was killed.
//
// # Position
//
// There is no checkpoint beside the files: the last sequence in the name of a dataset's newest file
// is where the next run goes on, so rows and position can't disagree. The file's footer repeats the
// range and says which stream it is of, by its creation time; another stream is refused. A range
// without rows is kept as a file without rows, and such a file is replaced by its successor, which
// then covers both. Files may be moved away but for the newest of each dataset and stream.
//
// # Memory
//
// A row group is written out at 16 MiB of values or 50,000 rows, whichever is first, and a message is
// at most one order. At most four files are open: two of RECORD, one each of DONE and REJECTED.
package export
