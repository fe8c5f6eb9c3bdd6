package bus

import (
	"strconv"
	"strings"
)

// ackSubject builds the subject on which the server hears an acknowledgement. Of the numbers in it
// only the stream sequence counts for explicit acks, so nothing is kept per order.
type ackSubject struct{ before, after string }

// ackNumbers are the numbers in an ack subject: delivery count, stream and consumer sequence, time,
// pending.
const ackNumbers = 5

// learn takes the frame of the subject from a message's reply, which has a domain in front and a
// token behind in newer forms.
func (a *ackSubject) learn(reply string) {
	if strings.HasPrefix(reply, a.before) && a.after == "" {
		return
	}
	tokens := strings.Split(reply, ".")
	frame := 4 // $JS.ACK.stream.consumer
	if len(tokens) > 9 {
		frame = 6 // $JS.ACK.domain.account.stream.consumer
	}
	if len(tokens) < frame+ackNumbers {
		return
	}
	a.before = strings.Join(tokens[:frame], ".") + "."
	if rest := tokens[frame+ackNumbers:]; len(rest) > 0 {
		a.after = "." + strings.Join(rest, ".")
	}
}

func (a *ackSubject) of(sequence uint64) string {
	s := strconv.FormatUint(sequence, 10)
	return a.before + "1." + s + "." + s + ".0.0" + a.after
}
