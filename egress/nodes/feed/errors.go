package feed

import "errors"

// Why a source was left.
var (
	errSilent      = errors.New("other nodes are ahead")
	errBetter      = errors.New("another source is better")
	errUnhealthy   = errors.New("it is not healthy any more")
	errLinkClosed  = errors.New("the WebSocket was closed")
	errRefused     = errors.New("the node refused the subscription")
	errOverflow    = errors.New("the node's results came faster than they could be taken")
	errPinned      = errors.New("a pinned node can't be dialled without proof")
	errMalformed   = errors.New("malformed answer")
	errNotThere    = errors.New("the node does not have it")
	errTooFar      = errors.New("too many blocks are missing")
	errNodeRefused = errors.New("the node answered with an error")
)

// Reasons for leaving a source, for metrics.
const (
	leftSilent    = "silent"
	leftBetter    = "better"
	leftUnhealthy = "unhealthy"
	leftFailed    = "failed"
)

func reasonOf(err error) string {
	switch {
	case errors.Is(err, errSilent):
		return leftSilent
	case errors.Is(err, errBetter):
		return leftBetter
	case errors.Is(err, errUnhealthy):
		return leftUnhealthy
	}
	return leftFailed
}
