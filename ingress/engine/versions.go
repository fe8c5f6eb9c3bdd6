package engine

import (
	"bytes"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/engineapi"
)

// Bounds of what is remembered of the secondaries' versions.
const (
	maxVersionNames   = 64
	maxVersionEntries = 8
	maxVersionSize    = 1 << 10
)

// versions are the secondaries' entries of engine_getClientVersionV1.
type versions struct {
	mu     sync.Mutex
	byName map[string][][]byte
	flat   []byte // all of them, joined by commas in the order of names
}

// Versions sets the entries that the named secondary last answered to engine_getClientVersionV1,
// each a raw JSON object; none forgets the name. Entries that are no objects or longer than 1 KiB,
// more than 8 of a name and names beyond 64 are left out.
func (d *Door) Versions(name string, entries [][]byte) {
	v := &d.versions
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.byName == nil {
		v.byName = make(map[string][][]byte)
	}
	var kept [][]byte
	for _, e := range entries {
		if raw := jsontext.Value(e); len(e) <= maxVersionSize && raw.Kind() == jsontext.KindBeginObject && raw.IsValid() && len(kept) < maxVersionEntries {
			kept = append(kept, bytes.Clone(e))
		}
	}
	delete(v.byName, name)
	if len(kept) > 0 && len(v.byName) < maxVersionNames {
		v.byName[name] = kept
	}
	var all [][]byte
	for _, n := range slices.Sorted(maps.Keys(v.byName)) {
		all = append(all, v.byName[n]...)
	}
	v.flat = bytes.Join(all, []byte{','})
}

// entries is the joined list; its bytes never change.
func (v *versions) entries() []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.flat
}

// flat is the answer's body, with the secondaries' versions appended to the primary's where the call
// asks for them.
func (d *Door) flat(x *exchange, a *answer) []byte {
	if d.cfg.ClientVersions == Off || a.status != http.StatusOK || len(a.header["Content-Encoding"]) > 0 {
		return a.body
	}
	asks := func(c engineapi.Call) bool { return c.Method == engineapi.MethodClientVersion }
	if !slices.ContainsFunc(x.calls, asks) {
		return a.body
	}
	more := d.versions.entries()
	if len(more) == 0 {
		return a.body
	}
	if a.views == nil {
		a.views = views(x, a.body)
	}
	var cuts []int
	for i, c := range x.calls {
		if at := listEnd(a.body, a.views[i]); asks(c) && at > 0 && !slices.Contains(cuts, at) {
			cuts = append(cuts, at)
		}
	}
	slices.Sort(cuts)
	return splice(a.body, cuts, more)
}

// listEnd is where in body the bracket is that ends the list which the view answers; 0 when it
// answers none. A view is part of body.
func listEnd(body, view []byte) int {
	list := engineapi.ResultOf(view)
	if len(list) < 2 || list[0] != '[' || list[len(list)-1] != ']' {
		return 0
	}
	// Both end with the same array: the distance to its end tells where the list begins.
	return cap(body) - cap(list) + len(list) - 1
}

// splice inserts more before each of the brackets at cuts, after a comma unless the list is empty.
func splice(body []byte, cuts []int, more []byte) []byte {
	out := make([]byte, 0, len(body)+len(cuts)*(len(more)+1))
	from := 0
	for _, at := range cuts {
		out = append(out, body[from:at]...)
		if last := bytes.TrimRight(out, " \t\r\n"); last[len(last)-1] != '[' {
			out = append(out, ',')
		}
		out = append(out, more...)
		from = at
	}
	return append(out, body[from:]...)
}
