package peerlink

import "errors"

var (
	// ErrConfig is returned for a configuration, or a list of peers, that can't be used.
	ErrConfig = errors.New("peers")
	// ErrNoPeer is returned by Receive for a peer that there is not, or no longer.
	ErrNoPeer = errors.New("no such peer")
	// ErrNotOpen is returned before Open and after Run has ended.
	ErrNotOpen = errors.New("peers are not connected to the bus")
	// ErrRefused is what a handshake that is refused ends with; the reason is in the text and on
	// millrace_peers_refused_handshakes_total.
	ErrRefused = errors.New("peer refused")

	// errInterrupted is why receiving starts over when its consumer has gone.
	errInterrupted = errors.New("consumer gone")
)
