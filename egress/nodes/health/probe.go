package health

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"millrace/internal/rpcapi"
)

// Ask sends a body to a node, without waiting for one of its places. An error means that there is no answer; a status
// of 400 or more is none. Nodes insist on a content type of application/json.
type Ask func(ctx context.Context, n *rpcapi.Node, body []byte) (status int, answer []byte, err error)

// report is what a check found out. The zero report is of a node that answers and says nothing of the chain.
type report struct {
	fault Reason // empty: it passed, as far as the node alone can tell
	text  string

	chain           uint64 // 0: not told
	head, finalized block
	knows           depth
	syncing         bool
}

// depth is how much a node tells.
type depth uint8

const (
	answersOnly depth = iota + 1
	tellsHead
)

// again is how many checks a node that does not know the methods of a full one is spared them.
const again = 20

// prober asks one node and remembers how it wants to be asked. One check at a time.
type prober struct {
	mode Mode
	ask  Ask
	// oneByOne: it refused a batch and answered single calls.
	oneByOne bool
	// proven: it told its head once, so nothing less is good enough.
	proven bool
	// spared is for how many checks net_version will do.
	spared int
}

func (p *prober) check(ctx context.Context, n *rpcapi.Node) report {
	if p.mode == ModeNetVersion || p.spared > 0 {
		p.spared = max(p.spared-1, 0)
		return p.any(ctx, n)
	}
	r := p.full(ctx, n)
	if r.fault == "" {
		p.proven = true
	}
	if r.fault != ReasonNoMethods || p.mode == ModeFull || p.proven {
		return r
	}
	less := p.any(ctx, n)
	less.chain = r.chain
	if less.fault == "" {
		p.spared = again
	}
	return less
}

// any is passed by any status below 400, and by an error of JSON-RPC with one that does not blame the server.
func (p *prober) any(ctx context.Context, n *rpcapi.Node) report {
	status, body, r := p.send(ctx, n, netVersion)
	if r.fault != "" || status < http.StatusBadRequest {
		return r
	}
	if _, ok := decodeReply(body); ok && !blames(status) {
		return report{knows: answersOnly}
	}
	return statusReport(status)
}

func (p *prober) full(ctx context.Context, n *rpcapi.Node) report {
	if !p.oneByOne {
		status, body, r := p.send(ctx, n, batch)
		if r.fault != "" {
			return r
		}
		if replies, ok := decodeBatch(body); ok {
			return read(n, &replies)
		}
		if status == http.StatusTooManyRequests {
			return statusReport(status)
		}
	}
	var replies [questions]reply
	for i, question := range singles {
		status, body, r := p.send(ctx, n, question)
		if r.fault != "" {
			return r
		}
		var ok bool
		if replies[i], ok = decodeReply(body); ok {
			continue
		}
		if blames(status) {
			return statusReport(status)
		}
		if i == 0 {
			return report{fault: ReasonNoMethods, text: fmt.Sprintf("status %d, no JSON-RPC", status)}
		}
	}
	r := read(n, &replies)
	p.oneByOne = p.oneByOne || r.fault == ""
	return r
}

// send asks; the report has a fault if there is no answer at all.
func (p *prober) send(ctx context.Context, n *rpcapi.Node, question string) (int, []byte, report) {
	status, body, err := p.ask(ctx, n, []byte(question))
	switch {
	case err == nil:
		return status, body, report{knows: answersOnly}
	case errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil:
		return 0, nil, report{fault: ReasonTimeout, text: safeText(n, err)}
	default:
		return 0, nil, report{fault: ReasonUnreachable, text: safeText(n, err)}
	}
}

// blames: the status says that the server can't, not that the question was wrong.
func blames(status int) bool {
	return status >= http.StatusInternalServerError || status == http.StatusTooManyRequests
}

func statusReport(status int) report {
	return report{fault: ReasonStatus, text: fmt.Sprintf("status %d %s", status, http.StatusText(status))}
}

// read makes a report of the answers to the questions of a full check.
func read(n *rpcapi.Node, replies *[questions]reply) report {
	r := report{knows: answersOnly}
	chain, knowsChain := replies[askChainID].quantity()
	r.chain = chain
	head, knowsHead := replies[askLatest].block()
	if !knowsChain || !knowsHead {
		r.fault, r.text = ReasonNoMethods, "eth_chainId or eth_getBlockByNumber is not known"
		for _, place := range []int{askChainID, askLatest} {
			if e := replies[place].Error; e != nil {
				r.text = clean(n, fmt.Sprintf("error %d: %s", e.Code, e.Message))
				if e.exists() {
					r.fault = ReasonRPCError
					return r
				}
			}
		}
		if knowsChain && string(replies[askLatest].Result) == "null" {
			r.fault, r.text = ReasonRPCError, "there is no latest block"
		}
		return r
	}
	r.knows, r.head = tellsHead, head
	r.finalized, _ = replies[askFinalized].block() // a chain without finality, or one that is young
	r.syncing = replies[askSyncing].syncing()
	return r
}
