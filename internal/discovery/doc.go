// Package discovery says who the peers are. It asks up to four sources: the configuration's own list,
// a file, DNS SRV records and a BuilderHub; and hands their union on whenever that changes.
//
// # Merging
//
// A set has one peer of each name. When two sources name the same one, the entry of the more explicit
// source is used as a whole: configuration, file, DNS, hub, in this order. Fields are never mixed, so
// that a hub can't add a certificate to a peer whose key an operator has pinned. A signer or a pin
// belongs to one peer, too: who came second is left out, counted and named. Certificates may be shared.
// The process itself is left out by its name and by its signer, as hubs list everyone.
//
// # Failure
//
// A source that fails keeps its last good set; the failure is counted by reason and logged when it
// begins and ends. One entry that can't be used costs that entry only, except in the file: it is
// written by the operator, so a fault anywhere keeps all of the set before it. An answer with entries
// of which none can be used is a failure. Nothing here blocks a start: the first set is what the
// configuration and the file say, hub and DNS add theirs when they answer. Until all have, Complete is
// false, and a peer that is missing from a set is perhaps only not known yet. Nothing is kept across
// restarts.
//
// # Trust
//
// A peer is as true as its source. The hub's list is as true as the connection to the hub (https, or
// an attested tunnel on this machine). DNS answers are not authenticated, unless the resolver validates
// them: give pins in the configuration or a private authority where that matters.
//
// # Delivery
//
// Changes is called from one goroutine of Run: first with what is known at start, then whenever the set
// is another one, and once when Complete becomes true. Sets are sorted by name and belong to who is
// called.
//
// # Backpressure
//
// While Changes runs, sources wait with their next answer; each has at most one. A Refresh that comes
// while a source is being asked is kept, any number as one.
//
// # File
//
// The file is YAML. It is read again when it changes, and every half minute, as are the certificates
// it names. Unknown keys are errors.
//
//	peers:
//	  - name: beta                       # 1 to 32 letters, digits, - and _
//	    address: beta.example.org:5544   # of its listener; without one it only fetches from us
//	    dns_name: beta.example.org       # name in its certificate; the address's own by default
//	    transport: https                 # leafnode, https or auto, the default
//	    certificate: beta.pem            # PEM, or a file with it, relative to this one
//	    pins: [<64 hexadecimal digits>]  # SHA-256 of its public key (SPKI); several while it rotates
//	    signer: "0x…"                    # address of its order-flow key
//
// # DNS
//
// The SRV records give host and port. TXT records of the target's own name add the rest, as words
// key=value, in one record or several; others are passed over:
//
//	_millrace._tcp.example.org. SRV 0 0 7422 beta.example.org.
//	beta.example.org.           TXT "name=beta pin=<64 hexadecimal digits>"
//	beta.example.org.           TXT "transport=leafnode signer=0x…"
//
// Without name= a peer is called as its host, with dashes for dots. Resolvers don't tell how long an
// answer holds, so it is asked for every minute. A name without records is a failure, and keeps the
// last good set: to say that there is nobody, point the record to the host ".".
//
// # Shutdown
//
// Run returns nil soon after its context ends; requests under way are cut off.
package discovery
