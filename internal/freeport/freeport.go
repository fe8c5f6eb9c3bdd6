// Package freeport finds loopback ports for listeners whose address has to be known before they are there: nodes
// that a load test starts, servers of a test that name each other.
//
// None of them is a port that a system gives away by itself, to a connection or to a listener on port 0 (Linux from
// 32768 on, others from 49152): a process that is stopped finds its port free when it is started again. A
// process gets each port once; two processes begin at random places. What is returned is free at that moment
// and reserved for nobody.
package freeport

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
)

const (
	first = 10_000
	ports = 22_000
)

// ErrNone is returned when no port is free.
var ErrNone = errors.New("no port is free")

var next atomic.Uint32 //nolint:gochecknoglobals // what the process has had

func init() { next.Store(rand.Uint32N(ports)) } //nolint:gochecknoinits,gosec // processes begin apart; no secret

// Addrs returns n addresses, 127.0.0.1:port.
func Addrs(ctx context.Context, n int) ([]string, error) {
	var all []string
	for range n {
		p, err := Row(ctx, 1)
		if err != nil {
			return nil, err
		}
		all = append(all, addr(p))
	}
	return all, nil
}

// Row returns the first of n ports in a row. Each of them is free, and so is what lies the given distances
// above it.
func Row(ctx context.Context, n int, above ...int) (int, error) {
	width := n
	for _, a := range above {
		width = max(width, a+n)
	}
	for range ports {
		end := int(next.Add(uint32(n)) % ports) //nolint:gosec // a few ports
		if p := first + end - n; end >= n && end-n+width <= ports && rowIsFree(ctx, p, n, above) {
			return p, nil
		}
	}
	return 0, ErrNone
}

func rowIsFree(ctx context.Context, p, n int, above []int) bool {
	for i := range n {
		if !isFree(ctx, p+i) {
			return false
		}
		for _, a := range above {
			if !isFree(ctx, p+a+i) {
				return false
			}
		}
	}
	return true
}

func isFree(ctx context.Context, port int) bool {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr(port))
	return err == nil && l.Close() == nil
}

func addr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
