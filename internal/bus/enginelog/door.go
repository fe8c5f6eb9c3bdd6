package enginelog

import (
	"context"
	"fmt"

	"millrace/subjects"
)

// Holder is the bus's leases.
type Holder interface {
	Hold(ctx context.Context, name string, f func(ctx context.Context, valid func() bool) error) error
}

// HoldDoor waits for the lease of the door to the named primary, claims an epoch and runs f while both
// are this process's (CORRECTNESS 22). Whoever holds the door later has a later epoch, so what an earlier one
// still records after it lost the lease is known as older. valid is to be asked immediately before each effect.
func (s *State) HoldDoor(ctx context.Context, h Holder, primary string, f func(ctx context.Context, epoch uint64, valid func() bool) error) error {
	if !subjects.ValidName(primary) {
		return fmt.Errorf("door to %.40q: %w", primary, ErrName)
	}
	return h.Hold(ctx, subjects.EngineDoorLease(primary), func(ctx context.Context, valid func() bool) error {
		epoch, err := s.ClaimEpoch(ctx)
		if err != nil {
			return err
		}
		return f(ctx, epoch, valid)
	})
}
