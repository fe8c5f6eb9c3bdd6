// Package telemetry is how a process is seen from outside: its log, its metrics registry and the
// admin listener. It knows nothing of orders; what it serves beyond its own pages is handed in.
//
// # Access
//
// The admin listener is on loopback by default. Health pages and /metrics are open to whoever can
// connect. Whatever changes the process needs the admin token from anyone; everything else that
// is served needs it from callers that are not on loopback. The token is in a file, so that it
// stands in no process list: one is made on first use.
package telemetry
