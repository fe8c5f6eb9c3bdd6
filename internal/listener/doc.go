// Package listener serves HTTP on an address for a front door: it opens the address, bounds the connections and
// counts them, follows the certificate, and lets go of all that at the end. What is served is the door's.
//
// A door makes its Listeners in New, opens them in its own Run, and leaves the rest to Run of this package.
//
// # Backpressure
//
// A Listener has a bound of open connections; more wait to be accepted, in the system's own queue.
//
// # Shutdown
//
// When the context of Run ends, or a part of the door fails, the door drains: it turns unready, serves on for a while
// (Linger), and then takes leave (Drain): the address is closed, who is inside finishes within a deadline, and is
// cut off after it. Handlers that the server does not wait for, because their connection is a WebSocket or was
// closed, are Visits. What only helps to serve, as following the certificate, ends last.
package listener
