// Package doortest is what the tests of front doors share: a door that runs until its test ends, its log as text, wire
// transcripts, and whether it follows its certificate. For tests only.
package doortest
