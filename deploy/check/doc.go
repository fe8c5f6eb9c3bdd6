// Package check reads the Kubernetes and compose files with the types and the loader that they are
// written for. It is a module of its own, so that nobody who builds Millrace needs these.
package check
