package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/subjects"
)

// Change is one difference between what this version declares and what the bus has.
type Change struct {
	Kind string // KindStream, KindConsumer or KindBucket
	Name string // consumers as stream/consumer
	What string // WhatCreate, or the fields that differ as "field: has -> declared, ..."
}

// Kinds and what happens to them.
const (
	KindStream   = "stream"
	KindConsumer = "consumer"
	KindBucket   = "bucket"
	WhatCreate   = "create"
)

// String is the change as `millrace streams plan` prints it.
func (c Change) String() string { return c.Kind + " " + c.Name + ": " + c.What }

// Errors of Plan and Apply.
var (
	// ErrDrift: something exists with a property that can't be changed in place.
	ErrDrift = errors.New("exists with a property that can't be changed")
	// ErrNewerSchema: a newer version of Millrace made it; this one must not change it.
	ErrNewerSchema = errors.New("made by a newer version")
)

// Plan compares the streams, consumers and buckets that this version declares with those that
// exist, and changes nothing. The error joins everything that Apply would refuse.
func (b *Bus) Plan(ctx context.Context) ([]Change, error) {
	l, err := b.links.link(lane{use: useControl})
	if err != nil {
		return nil, err
	}
	steps, err := diff(ctx, l.js, b.declared())
	var changes []Change
	for _, s := range steps {
		changes = append(changes, s.Change)
	}
	return changes, err
}

// Apply makes what is missing and changes what differs, and returns what it did. It touches
// nothing when a part is refused (ErrDrift, ErrNewerSchema).
func (b *Bus) Apply(ctx context.Context) ([]Change, error) {
	l, err := b.links.link(lane{use: useControl})
	if err != nil {
		return nil, err
	}
	steps, err := diff(ctx, l.js, b.declared())
	if err != nil {
		return nil, err
	}
	return apply(ctx, l.js, steps)
}

// step is one declared part with its Change, whose What is empty until diff has filled it in.
type step struct {
	Change
	part
}

// part is a stream, a consumer or a bucket as this version declares it.
type part interface {
	// compare sets the declaration beside what the bus has; ErrStreamNotFound and
	// ErrConsumerNotFound say that it has nothing.
	compare(ctx context.Context, js jetstream.JetStream) (comparison, error)
	// put makes the part or changes it. It comes after compare.
	put(ctx context.Context, js jetstream.JetStream) error
}

// declared is all that this version declares, in the order in which it must be made.
func (b *Bus) declared() []step {
	var steps []step
	for _, s := range subjects.Streams(b.topo) {
		steps = append(steps, step{Change{Kind: KindStream, Name: s.Name}, &streamPart{s}})
	}
	for _, p := range b.topo.Classes() {
		workers := &consumerPart{stream: subjects.StreamIn(p), declare: b.workerConsumer}
		steps = append(steps, step{Change{Kind: KindConsumer, Name: workers.stream + "/" + subjects.WorkerDurable}, workers})
	}
	for _, k := range subjects.Buckets(b.topo) {
		steps = append(steps, step{Change{Kind: KindBucket, Name: k.Bucket}, &bucketPart{k}})
	}
	return steps
}

// diff returns the steps that are to be taken. The error joins what can't be.
func diff(ctx context.Context, js jetstream.JetStream, declared []step) (steps []step, err error) {
	err = each(declared, func(s step) error {
		has, err := s.compare(ctx, js)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrConsumerNotFound):
			s.What = WhatCreate
		case err != nil:
			return err
		default:
			if s.What, err = has.changes(s.Name); err != nil {
				return err
			}
		}
		if s.What != "" {
			steps = append(steps, s)
		}
		return nil
	})
	return steps, err
}

// apply takes the steps and returns those that it took.
func apply(ctx context.Context, js jetstream.JetStream, steps []step) (applied []Change, err error) {
	err = each(steps, func(s step) error {
		if err := s.put(ctx, js); err != nil {
			return err
		}
		applied = append(applied, s.Change)
		return nil
	})
	return applied, err
}

// each calls f for the steps and joins the errors. After one, the other streams, which may source the
// one at fault, and the consumers would only repeat it; buckets stand alone.
func each(steps []step, f func(step) error) error {
	var errs []error
	for _, s := range steps {
		if len(errs) > 0 && s.Kind != KindBucket {
			continue
		}
		if err := f(s); err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", s.Kind, s.Name, err))
		}
	}
	return errors.Join(errs...)
}

// comparison is one part as it is on the bus and as it is declared.
type comparison struct {
	has, want map[string]string // metadata
	fixed     []field           // a difference in these can't be mended in place
	fields    []field           // in these it can
}

// changes is what there is to change; the name is for the error.
func (c comparison) changes(name string) (string, error) {
	if err := checkSchema(name, c.has); err != nil {
		return "", err
	}
	if drift := differences(c.fixed); drift != "" {
		return "", fmt.Errorf("%w: %s", ErrDrift, drift)
	}
	return differences(append(c.fields, field{"schema", c.has[subjects.MetaSchema], c.want[subjects.MetaSchema]})), nil
}

// checkSchema refuses what a newer version made. What carries no version is older than versions.
func checkSchema(name string, metadata map[string]string) error {
	v := metadata[subjects.MetaSchema]
	if v == "" {
		return nil
	}
	has, err := strconv.Atoi(v)
	ours, _ := strconv.Atoi(subjects.SchemaVersion)
	if err != nil || has > ours {
		return fmt.Errorf("%s: %w: schema %s, ours is %s", name, ErrNewerSchema, v, subjects.SchemaVersion)
	}
	return nil
}

// field is one property as it is and as it is declared.
type field struct {
	name      string
	has, want any
}

func (f field) differs() bool { return fmt.Sprint(f.has) != fmt.Sprint(f.want) }

func (f field) String() string { return fmt.Sprintf("%s: %v -> %v", f.name, f.has, f.want) }

func differences(fs []field) string {
	var out []string
	for _, f := range fs {
		if f.differs() {
			out = append(out, f.String())
		}
	}
	return strings.Join(out, ", ")
}
