package eltest

import (
	"bytes"
	"io"

	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

// scripted is an answer from a capture.
type scripted struct {
	id     []byte // of the recorded request
	answer []byte
}

// Script makes the client answer what a capture holds with the capture's own bytes, the id apart,
// in the capture's order for calls that it holds more than once; the last one stays. What the
// capture does not hold is answered as ever. The client's own state follows the calls.
func (f *Fake) Script(capture io.Reader) error {
	script := map[string][]scripted{}
	for p, err := range record.ReadPairs(capture) {
		if err != nil {
			return err
		}
		calls, batch, err := engineapi.ParseCalls(p.Request)
		if err != nil || batch {
			continue
		}
		key := scriptKey(calls[0])
		script[key] = append(script[key], scripted{id: calls[0].ID, answer: p.Answer})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script = script
	return nil
}

func scriptKey(c engineapi.Call) string { return c.Method + string(c.Params) }

// recorded takes the next answer that the capture has for a call, nil when it has none. The caller
// holds the lock.
func (f *Fake) recorded(c engineapi.Call) []byte {
	key := scriptKey(c)
	list := f.script[key]
	if len(list) == 0 {
		return nil
	}
	if len(list) > 1 {
		f.script[key] = list[1:]
	}
	s := list[0]
	if bytes.Equal(s.id, c.ID) {
		return s.answer
	}
	calls, _, err := engineapi.ParseCalls(s.answer)
	if err != nil {
		return s.answer
	}
	answer, err := calls[0].WithID(c.ID)
	if err != nil {
		return s.answer
	}
	return answer
}
