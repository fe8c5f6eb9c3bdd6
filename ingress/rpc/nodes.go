package rpc

import (
	"encoding/json"
	"net/http"
	"strings"
)

// maxNodeURI bounds a request that changes the set of nodes: an attestation in a URI is a few kilobytes.
const maxNodeURI = 64 << 10

// nodes lists the nodes as they were added.
func (d *Door) nodes(w http.ResponseWriter, _ *http.Request) {
	uris := d.ports.Nodes.List()
	if uris == nil {
		uris = []string{}
	}
	w.Header()["Content-Type"] = d.jsonType
	_ = json.NewEncoder(w).Encode(uris) // the client went away
}

// changeNodes adds a node or removes one.
func (d *Door) changeNodes(w http.ResponseWriter, r *http.Request) {
	if d.policy.Load().NodesWritable != On {
		http.Error(w, "the set of nodes can't be changed here", http.StatusForbidden)
		return
	}
	var node struct {
		URI string `json:"uri"`
	}
	// Other members and what follows the object are let pass, as prio-load-balancer does.
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxNodeURI)).Decode(&node); err != nil {
		http.Error(w, strings.TrimRight(err.Error(), "\n"), http.StatusBadRequest)
		return
	}
	change := d.ports.Nodes.Add
	if r.Method == http.MethodDelete {
		change = d.ports.Nodes.Remove
	}
	if err := change(r.Context(), node.URI); err != nil {
		http.Error(w, strings.TrimRight(err.Error(), "\n"), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusOK)
}
