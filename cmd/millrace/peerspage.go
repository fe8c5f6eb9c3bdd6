package main

import (
	"context"
	"net/http"
	"time"

	"millrace/internal/bus/peerlink"
	"millrace/internal/discovery"
	"millrace/internal/telemetry"
)

// peersView is the page /peers.
type peersView struct {
	Operator string       `json:"operator"`
	Peers    []peerRow    `json:"peers"`
	Sources  []sourceRow  `json:"sources"`
	Missed   []missedView `json:"missed"`
}

// peerRow is one peer.
type peerRow struct {
	Name      string `json:"name"`
	Transport string `json:"transport"`
	Source    string `json:"source"`
	// Serving and Fetching are "up", "down", or "-" where there is no such connection to be.
	Serving  string  `json:"serving"`
	Fetching string  `json:"fetching"`
	RTT      float64 `json:"rtt_seconds"` // 0: not known
	// Owed is what it has not fetched from us, Behind what we have not fetched from it.
	Owed    uint64  `json:"owed"`
	Behind  uint64  `json:"behind"`
	PerSec  float64 `json:"orders_per_second"` // received in the last seconds
	Expires string  `json:"certificate_expires,omitempty"`
	Error   string  `json:"last_error,omitempty"`
	ErrorAt string  `json:"last_error_at,omitempty"`
}

// sourceRow is one way to know of peers.
type sourceRow struct {
	Source  string   `json:"source"`
	Peers   int      `json:"peers"`
	Last    string   `json:"last_success,omitempty"`
	Error   string   `json:"error,omitempty"`
	Skipped []string `json:"skipped,omitempty"`
}

// missedView is a run of a peer's orders that were dropped here.
type missedView struct {
	Peer   string `json:"peer"`
	Reason string `json:"reason"`
	Class  string `json:"class,omitempty"`
	First  string `json:"first"`
	Last   string `json:"last"`
	Count  uint64 `json:"count"`
	Since  string `json:"since"`
	Until  string `json:"until"`
}

func (p *process) peersPages() []telemetry.Page {
	if p.peers == nil {
		return nil
	}
	return []telemetry.Page{
		{Pattern: "GET /peers", Access: telemetry.AccessRead, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, p.peers.view(p.cfg.Peers.Link.Operator))
		})},
		{Pattern: "POST /peers/refresh", Access: telemetry.AccessWrite, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			p.peers.finder.Refresh()
			w.WriteHeader(http.StatusNoContent)
		})},
	}
}

func (r *peersRole) view(operator string) peersView {
	v := peersView{Operator: operator, Peers: []peerRow{}, Sources: []sourceRow{}, Missed: []missedView{}}
	states := map[string]peerlink.State{}
	for _, s := range r.links.State() {
		states[s.Peer] = s
	}
	for _, p := range r.finder.Peers() {
		row := peerRow{Name: p.Name, Transport: p.Transport.String(), Source: p.Source.String(), PerSec: r.pace.of(p.Name)}
		if s, ok := states[p.Name]; ok {
			row.Transport = discovery.Leafnode.String()
			row.add(&s)
		}
		v.Peers = append(v.Peers, row)
	}
	for _, s := range r.finder.State() {
		row := sourceRow{Source: s.Source.String(), Peers: s.Peers, Last: stamp(s.LastSuccess)}
		if s.Err != nil {
			row.Error = s.Err.Error()
		}
		for _, skip := range s.Skipped {
			row.Skipped = append(row.Skipped, skip.Name+": "+skip.Err.Error())
		}
		v.Sources = append(v.Sources, row)
	}
	for _, m := range r.receiver.Missed() {
		view := missedView{
			Peer: m.Peer, Reason: m.Drop.String(), First: m.First, Last: m.Last, Count: m.Count, Since: stamp(m.Since), Until: stamp(m.Until),
		}
		if m.Class.Valid() {
			view.Class = m.Class.String()
		}
		v.Missed = append(v.Missed, view)
	}
	return v
}

func (row *peerRow) add(s *peerlink.State) {
	row.Serving, row.Fetching = row.linked(s.Serving), row.linked(s.Fetching)
	for _, b := range s.Owed {
		row.Owed += b.Orders
	}
	for _, b := range s.Behind {
		row.Behind += b.Orders
	}
	row.Expires, row.Error, row.ErrorAt = stamp(s.CertificateExpires), s.LastError, stamp(s.LastErrorAt)
}

// linked says whether all connections of a direction are there, and keeps the longest round trip.
func (row *peerRow) linked(conns []peerlink.Connection) string {
	if len(conns) == 0 {
		return "-"
	}
	state := "up"
	for _, c := range conns {
		if !c.Connected {
			state = "down"
		}
		row.RTT = max(row.RTT, c.RTT.Seconds())
	}
	return state
}

// stamp is a time in JSON; empty for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// peersCmd shows the peers.
type peersCmd struct {
	Show    peersShowCmd    `cmd:"" default:"withargs" help:"Print the peers: connections, round trips, lag, errors. This is the default command."`
	Refresh peersRefreshCmd `cmd:"" help:"Ask the BuilderHub and DNS for the peers now."`
}

// peersShowCmd prints the peers.
type peersShowCmd struct {
	adminAt `embed:""`
	JSON    bool `name:"json" help:"Print JSON."`
}

// Run prints the peers.
func (c *peersShowCmd) Run(ctx context.Context, a *app) error {
	if c.JSON {
		return c.print(ctx, "/peers", "show peers", a.stdout)
	}
	var v peersView
	if err := c.read(ctx, "/peers", "show peers", &v); err != nil {
		return err
	}
	t := newTable(a.stdout, "NAME", "TRANSPORT", "SOURCE", "SERVING", "FETCHING", "RTT", "OWED", "BEHIND", "ORDERS/S", "CERTIFICATE UNTIL", "LAST ERROR")
	for _, p := range v.Peers {
		rtt := "-"
		if p.RTT > 0 {
			rtt = time.Duration(p.RTT * float64(time.Second)).Round(10 * time.Microsecond).String()
		}
		t.row(p.Name, p.Transport, p.Source, orDash(p.Serving), orDash(p.Fetching), rtt, p.Owed, p.Behind, int(p.PerSec+0.5), orDash(p.Expires), orDash(p.Error))
	}
	for _, s := range v.Sources {
		if s.Error != "" {
			t.row("source "+s.Source, "-", "-", "-", "-", "-", "-", "-", "-", "-", s.Error)
		}
	}
	return t.flush()
}

// peersRefreshCmd has the sources asked now.
type peersRefreshCmd struct {
	adminAt `embed:""`
}

// Run asks.
func (c *peersRefreshCmd) Run(ctx context.Context, a *app) error {
	resp, err := c.do(ctx, http.MethodPost, "/peers/refresh", "refresh peers")
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	_, err = a.stdout.Write([]byte("asked\n"))
	return err
}
