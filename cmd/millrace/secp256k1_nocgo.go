//go:build !cgo

package main

// go-ethereum chooses by the same build constraint.
const (
	secp256k1            = "decred"
	secp256k1Consequence = "pure Go, about 180 µs a recovery: build with cgo and a C compiler for four times the speed"
)
