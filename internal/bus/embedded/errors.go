package embedded

import "errors"

var (
	// ErrLocked is returned by Start when another process runs a server on the same store directory.
	ErrLocked = errors.New("store directory is in use by another process")
	// ErrTwoStores is returned by Start when an older version has run on a store that a newer one had taken
	// over, so that there are streams in both places. Moving one of them away settles it.
	ErrTwoStores = errors.New("an older version wrote beside this store")
	// ErrStoreFailed is returned by Health when the server could not write and has frozen a stream
	// or switched JetStream off. It stays so until the server is started again; nothing that was
	// acknowledged is lost by doing that.
	ErrStoreFailed = errors.New("the store has failed, restart needed")
	// ErrPeering is returned for what needs Config.Peering, and for one that can't be used.
	ErrPeering = errors.New("no peering")
	// ErrStopped is returned by Health once Shutdown was called.
	ErrStopped = errors.New("embedded server is stopped")
	// ErrCredentials is returned for a credentials file that holds neither an nkey seed nor a
	// NATS user JWT.
	ErrCredentials = errors.New("neither an nkey seed nor a credentials file")
)
