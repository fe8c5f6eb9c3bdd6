package bus

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

// pubAck is the store's answer to a publish.
type pubAck struct {
	Stream    string              `json:"stream"`
	Sequence  uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
	Error     *jetstream.APIError `json:"error"`
}

var errBadAck = errors.New("acknowledgement can't be read")

// parseAck reads the store's answer. Every order has two of them, and nearly all read
// {"stream":"OK_HIGH","seq":123}: that one is read without reflection. Anything else goes to
// encoding/json, so what the server may add one day is understood as before.
func parseAck(b []byte) (pubAck, error) {
	if seq, ok := plainAck(b); ok {
		return pubAck{Sequence: seq}, nil
	}
	var ack pubAck
	if err := json.Unmarshal(b, &ack); err != nil {
		return pubAck{}, errors.Join(errBadAck, err)
	}
	if ack.Error != nil {
		return ack, ack.Error
	}
	if ack.Stream == "" {
		return ack, errBadAck
	}
	return ack, nil
}

// plainAck reads exactly {"stream":"NAME","seq":N}, NAME of letters, digits and underscores as ours are.
func plainAck(b []byte) (seq uint64, ok bool) {
	rest, ok := bytes.CutPrefix(b, []byte(`{"stream":"`))
	if !ok {
		return 0, false
	}
	name, rest, ok := bytes.Cut(rest, []byte(`","seq":`))
	if !ok || len(name) == 0 || bytes.ContainsFunc(name, isStrange) {
		return 0, false
	}
	digits, ok := bytes.CutSuffix(rest, []byte("}"))
	if !ok || len(digits) == 0 || digits[0] < '1' || digits[0] > '9' {
		return 0, false
	}
	seq, err := strconv.ParseUint(string(digits), 10, 64) // of at most 20 digits: does not escape
	return seq, err == nil
}

func isStrange(r rune) bool {
	return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}
