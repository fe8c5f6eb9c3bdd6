package engine

import (
	"errors"
	"net/http"

	"millrace/egress/engine/chain"
	"millrace/internal/engineapi"
)

// fate is what the answer to a step asks for.
type fate uint8

const (
	// accepted: VALID, go on.
	accepted fate = iota + 1
	// forced: ACCEPTED, executed only when a forkchoice names it.
	forced
	// stuck: the client lacks something, so ask for its head.
	stuck
	// refused: INVALID.
	refused
	// faulty: an error that asking again repeats, and that other calls need not have.
	faulty
	// anchorless: the client does not know the safe or the finalized block.
	anchorless
	// tooDeep: the client does not take its head back as far.
	tooDeep
	// unsupported: the client does not know the method.
	unsupported
	// unauthorized: the client does not take our token.
	unauthorized
	// misfit: the client's server does not take such a request.
	misfit
	// failing: send the same call again, later.
	failing
	// overtaken: a live call came first, decide again.
	overtaken
	// tokenless: there is no token at the moment.
	tokenless
)

var fateNames = [...]string{
	"", "accepted", "forced", "stuck", "refused", "faulty", "anchorless", "too_deep",
	"unsupported", "unauthorized", "misfit", "failing", "overtaken", "tokenless",
}

func fates() []fate {
	all := make([]fate, 0, len(fateNames))
	for f := accepted; f <= tokenless; f++ {
		all = append(all, f)
	}
	return all
}

// String is the fate as a metric label.
func (f fate) String() string { return name(fateNames[:], uint8(f)) }

// judge is the table of outcomes.
func judge(kind chain.Kind, r engineapi.Result, err error) fate {
	switch {
	case errors.Is(err, ErrOvertaken):
		return overtaken
	case errors.Is(err, ErrNoToken):
		return tokenless
	case err != nil:
		return failing
	case r.HTTPStatus != http.StatusOK:
		return judgeHTTP(r.HTTPStatus)
	case r.Malformed:
		return failing
	case r.Code != 0:
		return judgeCode(kind, r.Code)
	}
	switch r.Verdict() {
	case engineapi.Valid:
		return accepted
	case engineapi.Invalid:
		return refused
	default:
	}
	if r.Status == engineapi.StatusAccepted && kind == chain.Payload {
		return forced
	}
	return stuck
}

func judgeHTTP(status int) fate {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return unauthorized
	case status == http.StatusRequestTimeout || status == http.StatusTooManyRequests,
		status >= http.StatusInternalServerError:
		return failing
	}
	return misfit
}

func judgeCode(kind chain.Kind, code int) fate {
	switch code {
	case engineapi.CodeInternal, engineapi.CodeServer:
		return failing
	case engineapi.CodeMethodNotFound:
		return unsupported
	case engineapi.CodeInvalidForkchoice:
		if kind != chain.Payload {
			return anchorless
		}
	case engineapi.CodeTooDeepReorg:
		if kind != chain.Payload {
			return tooDeep
		}
	}
	return faulty
}
