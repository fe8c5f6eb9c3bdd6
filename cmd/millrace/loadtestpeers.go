package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"millrace/loadtest"
)

// testKey is the key of a node of a load test. It follows from the test's directory and the node's name, so that each node
// can be told the others' pins before they are there; it protects nothing.
func testKey(dir, name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(filepath.Dir(dir) + "\x00" + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// testPin is the pin of a node's key.
func testPin(dir, name string) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(testKey(dir, name).Public())
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// writeTestCertificate puts a node's certificate and key into its directory.
func writeTestCertificate(p *loadtest.NodePlan) error {
	key := testKey(p.Dir, p.Name)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 30), DNSNames: []string{p.Name},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(p.Dir, "peers.pem"), "CERTIFICATE", cert); err != nil {
		return err
	}
	return writePEM(filepath.Join(p.Dir, "peers.key"), "PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// testPeers are the keys with which a node knows the others, through the links to them.
func testPeers(p *loadtest.NodePlan) (map[string]any, error) {
	var list []map[string]any
	for _, other := range p.Peers {
		pin, err := testPin(p.Dir, other.Name)
		if err != nil {
			return nil, err
		}
		list = append(list, map[string]any{"name": other.Name, "address": other.Addr, "transport": "leafnode", "pins": []string{pin}})
	}
	return map[string]any{
		"peers.name": p.Name, "peers.listen": p.Peer, "peers.tls.cert": filepath.Join(p.Dir, "peers.pem"),
		"peers.tls.key": filepath.Join(p.Dir, "peers.key"), "peers.static": list,
	}, nil
}

// testJoined reports whether a node is connected to all its peers, both ways.
func testJoined(ctx context.Context, p loadtest.NodePlan) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/peers", p.Admin), nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var v peersView
	if json.NewDecoder(resp.Body).Decode(&v) != nil || len(v.Peers) != len(p.Peers) {
		return false
	}
	for _, peer := range v.Peers {
		if peer.Serving != "up" || peer.Fetching != "up" {
			return false
		}
	}
	return true
}
