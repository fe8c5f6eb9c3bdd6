// Package subjects is the contract between stages: the subject grammar, the partition function,
// message ids and headers, and the streams, consumers and buckets as data. Stages in different
// processes, of different versions, agree through this package alone.
//
// Cardinality is low on purpose: per-subject state is what slows JetStream down, so hashes travel
// in Nats-Msg-Id and in headers, never in a subject.
package subjects
