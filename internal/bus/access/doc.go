// Package access says who may do what on a bus that others run: the users of a nats-server or of a
// cluster, the subjects that each of them needs and no more, their keys, and the server's
// configuration files, ready to start.
//
// # Keys
//
// Each user proves itself with an nkey. Its seed is a file in the site's keys directory, readable by
// its owner only, and the only secret; the servers get the public keys. Who writes a site again keeps
// the keys that are there. While a key is being replaced the servers know both, so a role can be
// started with the new one at leisure (Rotate, Retire).
//
// # What is not prevented
//
// A user that may create a consumer chooses where a push consumer delivers to, and the server
// does not check that subject against the user's own permissions. So the streams on which a role may create
// consumers freely are few, and hold nothing that is worth forwarding: see Roles.
package access
