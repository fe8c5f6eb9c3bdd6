// Package archtest holds the shape of the module as a test: which package may import which, that
// every package says what it is for, and that files and functions stay small. The table here is the
// one of docs/architecture.md; an edge that it does not name fails the build, and no comment in the
// code can switch that off.
package archtest
