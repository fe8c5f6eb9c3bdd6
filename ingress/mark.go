package ingress

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"time"

	"millrace/internal/jsonrpc"
)

// The replay mark (CORRECTNESS 20): a client that wants its orders marked as replays sends the replay
// credential in this header, and a door for marked replays says in the same header that it marks them.
const (
	headerReplay = "X-Millrace-Replay"
	replayMarked = "marked"
)

// replayVerdictWait is how long a door for marked replays waits for a verdict at least: the verdict is
// what a replay is for, and nobody is in a hurry.
const replayVerdictWait = 10 * time.Second

// ForReplays returns the configuration of the door for marked replays that belongs to c: the same
// limits, a listener of its own, a credential that every request needs, and patience for verdicts.
func (c Config) ForReplays(credential string) Config {
	c.Listen, c.BuilderListen, c.Credential = c.ReplayListen, "", credential
	c.VerdictWait = max(c.VerdictWait, replayVerdictWait)
	return c
}

// marked lets requests through to a door for live orders that do not ask to be marked, and to one for
// marked replays those that may. A client that asks for the mark at a live door is refused: its orders
// would be live.
func (s *Server) marked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		credential := s.policy.Load().Credential
		given, asked := r.Header[headerReplay]
		switch {
		case credential == "" && !asked, r.Method != http.MethodPost: // every live order
		case credential != "" && len(given) == 1 && sameCredential(given[0], credential):
			w.Header()[headerReplay] = []string{replayMarked}
		default:
			s.refuseMark(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// sameCredential takes the same time for every guess.
func sameCredential(given, want string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func (s *Server) refuseMark(w http.ResponseWriter) {
	f := faultOf(deny(deniedMark, "this door does not take marked replays with this credential"))
	s.metrics.reject(f.label)
	h := w.Header()
	h["Content-Type"] = s.jsonType
	h.Set("Connection", "close") // the body was not read
	w.WriteHeader(f.status)
	_, _ = w.Write(jsonrpc.AppendError(nil, nil, &f.rpc)) // the client went away
}
