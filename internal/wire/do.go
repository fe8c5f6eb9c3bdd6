package wire

import (
	"context"
	"time"
)

// Request is what Peer.Do sends.
type Request struct {
	// Method is that of the head; it decides whether an answer has a body.
	Method string
	// Head is the whole head, up to its empty line: Head.Append, AppendHeader, AppendEnd.
	Head []byte
	Body []byte
	// Into is memory for the answer's body, which is the caller's; nil: fresh memory. Its content is overwritten.
	Into []byte
	// Wrote, if not nil, is called once the request is written, and by the end of the call, perhaps twice.
	Wrote func()
}

// Sent says how far a call got.
type Sent struct {
	// Bytes is how many bytes of the request left; with none the peer can't have acted on it.
	Bytes int64
	// Reused says that the connection had been used before: the peer may have closed it just then, without
	// having seen the request.
	Reused bool
	// Began says that an answer had begun.
	Began bool
}

// Do makes one call, until deadline (zero: none) or the end of ctx. With an error Sent says how far it got; the answer
// has a status if one came, of which err is what ended the reading of its body.
func (p *Peer) Do(ctx context.Context, deadline time.Time, r *Request) (Answer, Sent, error) {
	if r.Wrote != nil {
		defer r.Wrote()
	}
	if d, ok := ctx.Deadline(); ok && (deadline.IsZero() || d.Before(deadline)) {
		deadline = d
	}
	for {
		c, err := p.Take(ctx, deadline)
		if err != nil {
			return Answer{}, Sent{}, err
		}
		a, sent, err := p.exchange(ctx, c, r)
		if err == nil || sent.Bytes > 0 || !sent.Reused || ctx.Err() != nil || isTimeout(err) {
			return a, sent, Plainly(ctx, err)
		}
	}
}

// exchange makes the call on c, and gives c back.
func (p *Peer) exchange(ctx context.Context, c *Conn, r *Request) (a Answer, sent Sent, err error) {
	stop := c.Watch(ctx)
	reuse := false
	defer func() {
		if stop() && reuse {
			p.Put(c)
		} else {
			p.Drop(ctx, c)
		}
	}()
	sent.Reused = c.used
	c.Head = append(c.Head[:0], r.Head...)
	var unwritten error
	sent.Bytes, unwritten = c.Write(r.Body)
	if unwritten != nil && (sent.Bytes == 0 || isTimeout(unwritten)) {
		return Answer{}, sent, unwritten
	}
	if r.Wrote != nil {
		r.Wrote()
	}
	// Also when the peer hung up on the body: it can't have it, but may say why.
	a, err = c.AnswerInto(r.Method, r.Into)
	sent.Began = c.began
	reuse = unwritten == nil && c.intact
	if a.Status == 0 && unwritten != nil {
		err = unwritten
	}
	return a, sent, err
}
