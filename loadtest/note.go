package loadtest

import (
	"fmt"
	"time"
)

// noteEvery is how often a run says how far it is.
const noteEvery = 10 * time.Second

// note writes a line about the run's progress each time every is over, until stop is called, which
// returns when nothing is written any more.
func (s *Scenario) note(j *Journal, started time.Time, every time.Duration) (stop func()) {
	if s.Notes == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
			}
			_, _ = fmt.Fprintf(s.Notes, "%s: %d answered, %d accepted, %d shed\n",
				time.Since(started).Round(time.Second), j.Answered(), j.Count(AnswerAccepted), j.Count(AnswerShed))
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}
