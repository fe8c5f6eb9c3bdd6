package eltest

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// Fault is how a client fails. It holds for the methods given, all without any, and as often as
// Times says, for ever when that is 0.
type Fault struct {
	Methods []string
	Times   int

	Latency time.Duration // before the call is looked at
	// Hang never answers until Recover, Stop or Kill. After Recover the call is executed even if its
	// caller has left, as a process does that was stopped and goes on.
	Hang bool
	// Lost executes the call and drops the connection instead of answering.
	Lost bool
	// Status answers with Body instead of executing the call.
	Status      int
	ContentType string // with Status; application/json without one
	Body        string
	// Garble executes the call and answers 200 with Body.
	Garble bool
}

// armed is a fault with what is left of it.
type armed struct {
	Fault
	left int
}

// Fail arms a fault, behind those that are armed already: the first that fits is taken.
func (f *Fake) Fail(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, &armed{Fault: fault, left: fault.Times})
}

// Recover disarms every fault and lets go of what hangs.
func (f *Fake) Recover() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
	f.letGo()
}

// letGo wakes what hangs. The caller holds the lock.
func (f *Fake) letGo() {
	close(f.hung)
	f.hung = make(chan struct{})
}

// faultFor takes the fault that holds for the first of methods that has one.
func (f *Fake) faultFor(methods []string) (fault Fault, hung <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, a := range f.faults {
		if len(a.Methods) > 0 && !slices.ContainsFunc(methods, func(m string) bool { return slices.Contains(a.Methods, m) }) {
			continue
		}
		if a.Times > 0 {
			if a.left--; a.left == 0 {
				f.faults = slices.Delete(f.faults, i, i+1)
			}
		}
		return a.Fault, f.hung
	}
	return Fault{}, f.hung
}

// suffer waits as the fault says and answers for it; done when nothing is left to do.
func (fault Fault) suffer(ctx context.Context, w http.ResponseWriter, hung <-chan struct{}) (done bool) {
	if fault.Latency > 0 {
		timer := time.NewTimer(fault.Latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return true
		}
	}
	if fault.Hang {
		<-hung
	}
	if fault.Status != 0 {
		kind := fault.ContentType
		if kind == "" {
			kind = contentJSON
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(fault.Status)
		_, _ = w.Write([]byte(fault.Body))
		return true
	}
	return false
}
