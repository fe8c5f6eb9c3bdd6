// Package embedded runs a nats-server with JetStream inside this process: the broker of `millrace
// node` and of `millrace bus`.
//
// # Access
//
// Without Config.Listen there is no port: clients of this process come in over a pipe
// (Server.ConnectOption). With it, the ordinary nats CLI and role processes connect by TCP. Every
// connection proves an nkey, those of this process too; there is no anonymous user. The seeds are
// generated on the first start and kept next to the store, readable by the owner alone, with a
// context file for the CLI (`nats --context <absolute path> stream ls`).
//
// Streams are in the account ORDERS. With Config.Peering there is an account PEERS beside it, and others that
// SetLeafs makes for leafnode connections; those are known by their TLS certificate, never by a key or a
// name, and are let in where Peering.Admit says.
//
// # Durability
//
// The server answers a publish when the message is in the page cache of the machine, so an
// acknowledged message survives the death of the process; Config.Sync decides what it needs to
// survive the death of the machine. A machine that died may have rolled a stream back, which
// Server.Unclean reports until Server.Settled is called: sequences have to be burnt in between,
// see package upkeep. Until then the listener admits nobody.
//
// # Shutdown
//
// Shutdown stops the server, waits, flushes the volume and leaves the clean mark. A process that
// dies instead leaves none, which is harmless unless the machine died as well.
package embedded
