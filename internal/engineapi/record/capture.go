package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
)

// maxLine bounds one line of a capture, bytes: a call of MaxRaw and its answer.
const maxLine = 2*MaxRaw + 1<<20

// Pair is one line of a capture: a call and its answer, the interchange form of `millrace engine
// import` and `export`. Request and Answer are raw JSON.
type Pair struct {
	Seq        uint64          `json:"seq"`
	Time       time.Time       `json:"ts"`
	Target     string          `json:"target"`
	Method     string          `json:"method"`
	Request    json.RawMessage `json:"req"`
	HTTPStatus int             `json:"httpStatus"`
	Answer     json.RawMessage `json:"resp"`
	Micros     int64           `json:"durUs"`
}

// Lost is the other kind of line: what the record that a capture was made of lacks in that place. With an
// epoch From and To are numbers of calls in it, without one they are places in the stream.
type Lost struct {
	Reason string `json:"reason"`
	What   string `json:"what,omitempty"` // request or outcome, where it is one of the two
	Epoch  uint64 `json:"epoch,omitempty"`
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
}

// lostLine is how a Lost is told from a Pair.
type lostLine struct {
	Lost *Lost `json:"lost"`
}

// AppendTo appends the loss as a line of a capture.
func (l Lost) AppendTo(b []byte) ([]byte, error) {
	line, err := json.Marshal(lostLine{&l})
	if err != nil {
		return b, fmt.Errorf("loss: %w", err)
	}
	return append(append(b, line...), '\n'), nil
}

// ReadPairs is ReadCapture that passes over what is lost.
func ReadPairs(r io.Reader) iter.Seq2[Pair, error] { return ReadCapture(r, func(Lost) {}) }

// ReadCapture reads a capture, line by line, and tells lost what the capture says is missing, in its place. A
// line that is none ends it with ErrRecord and the line's number.
func ReadCapture(r io.Reader, lost func(Lost)) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		lines := bufio.NewReaderSize(r, 1<<16)
		for n := 1; ; n++ {
			line, err := readLine(lines)
			if errors.Is(err, io.EOF) && len(line) == 0 {
				return
			}
			if err != nil && !errors.Is(err, io.EOF) {
				yield(Pair{}, fmt.Errorf("line %d: %w", n, err))
				return
			}
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			var l struct {
				Pair
				lostLine
			}
			if err := json.Unmarshal(line, &l); err != nil {
				yield(Pair{}, fmt.Errorf("line %d: %w: %w", n, ErrRecord, err))
				return
			}
			if l.Lost != nil {
				lost(*l.Lost)
				continue
			}
			if !yield(l.Pair, nil) {
				return
			}
		}
	}
}

// readLine reads up to the line's end and gives up beyond maxLine.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return nil, fmt.Errorf("longer than %d bytes: %w", maxLine, ErrRecord)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// AppendTo appends the pair as a line of a capture. What is no JSON in Request or Answer is written
// as a string, so that the line stays readable.
func (p Pair) AppendTo(b []byte) ([]byte, error) {
	p.Request, p.Answer = jsonOrText(p.Request), jsonOrText(p.Answer)
	out := bytes.NewBuffer(b)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false) // a call's own text stays as it is
	if err := enc.Encode(p); err != nil {
		return b, fmt.Errorf("pair %d: %w", p.Seq, err)
	}
	return out.Bytes(), nil
}

func jsonOrText(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	if json.Valid(raw) {
		return raw
	}
	text, err := json.Marshal(string(raw))
	if err != nil {
		return json.RawMessage("null")
	}
	return text
}
