package rpc

import (
	"encoding/binary"
	"net/http"
	"net/netip"

	"millrace/internal/clientip"
	"millrace/internal/rpcapi"
)

// Client is who calls, as one HTTP request shows it. It does not change while a WebSocket is open.
type Client struct {
	IP        netip.Addr // IPv6: its /64
	Key       string     // API key, empty: none
	Class     rpcapi.Class
	RequestID string
}

// Client is who made a request.
func (d *Door) Client(r *http.Request) Client {
	return clientOf(r, d.policy.Load())
}

func clientOf(r *http.Request, p *policy) Client {
	return Client{
		IP:        clientip.Of(r.RemoteAddr, r.Header["X-Forwarded-For"], p.trusted),
		Key:       first(r.Header, p.keyHeader),
		Class:     classOf(r.Header),
		RequestID: first(r.Header, "X-Request-Id"),
	}
}

// id tells clients apart, the same in every process; 0: unknown.
func (c *Client) id() uint64 {
	if !c.IP.IsValid() {
		return 0
	}
	b := c.IP.As16()
	// The finisher of splitmix64 spreads what addresses have in common.
	x := binary.BigEndian.Uint64(b[:8])*0x9e3779b97f4a7c15 ^ binary.BigEndian.Uint64(b[8:])
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return max(x^x>>31, 1)
}

// classOf reads the priority headers as prio-load-balancer does: their value is "true" exactly.
func classOf(h http.Header) rpcapi.Class {
	switch {
	case first(h, "X-Fast-Track") == "true":
		return rpcapi.FastTrack
	case first(h, "High_prio") == "true" || first(h, "X-High-Priority") == "true":
		return rpcapi.High
	default:
		return rpcapi.Low
	}
}

// first is Header.Get of a key that is canonical.
func first(h http.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}
