package embedded

import "net/http"

// Monitor returns nats-server's monitoring endpoints (/varz, /connz, /jsz, /healthz, /subsz,
// /accountz, /accstatz, /leafz, /ipqueuesz), to be mounted on the admin listener: the server itself
// opens no port for them. They are read-only, but tell account and connection names.
func (s *Server) Monitor() http.Handler {
	mux := http.NewServeMux()
	for path, f := range map[string]http.HandlerFunc{
		"/varz":      s.ns.HandleVarz,
		"/connz":     s.ns.HandleConnz,
		"/jsz":       s.ns.HandleJsz,
		"/healthz":   s.ns.HandleHealthz,
		"/subsz":     s.ns.HandleSubsz,
		"/accountz":  s.ns.HandleAccountz,
		"/accstatz":  s.ns.HandleAccountStatz,
		"/leafz":     s.ns.HandleLeafz,
		"/ipqueuesz": s.ns.HandleIPQueuesz,
	} {
		mux.HandleFunc("GET "+path, f)
	}
	return mux
}
