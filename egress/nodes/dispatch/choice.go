package dispatch

import (
	"math"
	"math/rand/v2"

	"millrace/internal/rpcapi"
)

// choose is a free node that may serve the call; nil if there is none.
func (d *Dispatcher) choose(w *Want) *node {
	switch {
	case len(d.nodes) == 1:
		if x := d.nodes[0]; d.fits(w, x) {
			return x
		}
		return nil
	case d.cfg.Balance == ByClient && w.Client != 0:
		return d.byScore(w)
	}
	// Most often any two nodes fit, and nobody has to look at all of them.
	x, y := pair(d.nodes)
	if !d.fits(w, x) || !d.fits(w, y) {
		fit := d.fitting(w)
		switch len(fit) {
		case 0:
			return nil
		case 1:
			return fit[0]
		}
		x, y = pair(fit)
	}
	if float64(y.busy)*x.weight < float64(x.busy)*y.weight {
		return y
	}
	return x
}

func (d *Dispatcher) fits(w *Want, x *node) bool { return x.free() && d.may(w, x) }

func (d *Dispatcher) fitting(w *Want) []*node {
	d.scratch = d.scratch[:0]
	for _, x := range d.nodes {
		if d.fits(w, x) {
			d.scratch = append(d.scratch, x)
		}
	}
	return d.scratch
}

// pair is two different nodes at random, in random order, of two or more.
func pair(nodes []*node) (x, y *node) {
	r := rand.Uint64() //nolint:gosec // load is spread, no secret is made
	n := uint64(len(nodes))
	i := int(r >> 32 * n >> 32)
	j := int(r & math.MaxUint32 * (n - 1) >> 32)
	if j >= i {
		j++
	}
	return nodes[i], nodes[j]
}

func (d *Dispatcher) byScore(w *Want) *node {
	var best *node
	var high float64
	for _, x := range d.nodes {
		if !d.fits(w, x) {
			continue
		}
		if s := score(w.Client, x.tag, x.weight); best == nil || s > high {
			best, high = x, s
		}
	}
	return best
}

// score ranks nodes for a client, the same in every process (weighted rendezvous hashing): -weight/ln(h), with h
// spread evenly over (0, 1).
func score(client uint64, tag rpcapi.Tag, weight float64) float64 {
	h := mix(mix(client) + uint64(tag)*0x9e3779b97f4a7c15)
	return -weight / math.Log((float64(h>>11)+0.5)/(1<<53))
}

// mix is splitmix64's finaliser: every bit of z moves every bit of the result.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
