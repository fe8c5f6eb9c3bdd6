package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	replayer "millrace/egress/engine"
)

// engineCmd is the Engine API: the door, and commands for one that runs.
type engineCmd struct {
	Serve   engineRunCmd     `cmd:"" name:"run" default:"withargs" help:"Run the door. This is the default."`
	Status  engineStatusCmd  `cmd:"" help:"Print where each execution client stands, through a running process's admin listener."`
	Promote enginePromoteCmd `cmd:"" help:"Make a secondary the primary that is in sync, without losing a call."`
	Modes   engineModesCmd   `cmd:"" help:"Print or switch what may be done with a secondary."`
	Report  engineReportCmd  `cmd:"" help:"Compare the secondaries' answers with the primary's: counts, latencies, divergences."`
	Export  engineExportCmd  `cmd:"" help:"Write recorded calls and their answers as JSON lines."`
	Import  engineImportCmd  `cmd:"" help:"Put JSON lines of calls and answers into a record."`
	Drive   engineDriveCmd   `cmd:"" help:"Drive an Engine API as a consensus client of a test network does."`
}

// engineRunCmd runs the Engine API.
type engineRunCmd struct {
	settings `embed:""`
	CLProxy  clProxy `embed:"" group:"cl-proxy"`
}

// Help is the long help text.
func (engineRunCmd) Help() string {
	return `Stands between one consensus client and its primary execution client, whose answers pass unchanged. Every call is recorded, and the secondaries are kept at the primary's head from the record: the consensus client never waits for them. Embeds a NATS server unless nats.url is set.

Users of cl-proxy change one word: --primary-builder, --secondary-builder and --port mean the same here. Without engine.jwt_secret the consensus client's tokens are then passed on, as cl-proxy does; a secondary without a secret of its own gets calls only while such a token is fresh, so it can't be caught up after that.`
}

// AfterApply puts cl-proxy's flags into the configuration, at every reading of the command line.
func (c *engineRunCmd) AfterApply() error { return usage(c.CLProxy.onto(&c.Keys.Engine)) }

// Run runs the Engine API.
func (c *engineRunCmd) Run(ctx context.Context, a *app) error { return a.serve(ctx, roleEngine) }

// engineAt is a running process with the Engine API.
type engineAt struct {
	adminAt `embed:""`
}

// post makes a change, with the token that the process made itself unless another is named.
func (q *engineAt) post(ctx context.Context, path, what string, values url.Values) error {
	if q.TokenFile == "" {
		q.TokenFile = filepath.Join("data", "admin.token")
	}
	resp, err := q.do(ctx, http.MethodPost, path+"?"+values.Encode(), what)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// engineStatusCmd prints the clients.
type engineStatusCmd struct {
	engineAt `embed:""`
	JSON     bool `name:"json" help:"Print JSON."`
}

// Run prints the clients.
func (c *engineStatusCmd) Run(ctx context.Context, a *app) error {
	if c.JSON {
		return c.print(ctx, "/engine", "engine status", a.stdout)
	}
	var s engineStatusView
	if err := c.read(ctx, "/engine", "engine status", &s); err != nil {
		return err
	}
	t := newTable(a.stdout, "NAME", "ROLE", "MODE", "STATE", "HEAD", "LAG", "OLDEST", "REASON")
	for _, r := range s.Clients {
		t.row(r.Target, r.Role, r.Mode, r.State, r.Number, r.LagBlocks, r.Oldest.Round(time.Millisecond), orDash(r.Reason))
	}
	return t.flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// enginePromoteCmd changes the primary.
type enginePromoteCmd struct {
	engineAt `embed:""`
	Name     string `arg:"" help:"Name of the secondary; primary for the one of the configuration."`
}

// Help is the long help text.
func (enginePromoteCmd) Help() string {
	return `The secondary must be in sync: its head is that of the last eligible forkchoice in the record. From then on calls go to it, while each payload id stays with the client that issued it; the former primary becomes a secondary. The choice survives restarts. Refused with the reason otherwise; nothing has changed then.

Needs the admin token: --token-file, otherwise data/admin.token in the working directory.`
}

// Run changes the primary.
func (c *enginePromoteCmd) Run(ctx context.Context, a *app) error {
	if err := c.post(ctx, "/engine/promote", "promote", url.Values{"name": {c.Name}}); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "%s is the primary\n", c.Name)
	return err
}

// engineModesCmd prints or switches modes.
type engineModesCmd struct {
	engineAt `embed:""`
	Name     string `arg:"" optional:"" help:"Name of a secondary; without one all are printed."`
	Mode     string `arg:"" optional:"" help:"follow, shadow-build, observe or off; configured: that of the configuration again."`
}

// Run prints or switches modes.
func (c *engineModesCmd) Run(ctx context.Context, a *app) error {
	if c.Mode == "" {
		var s engineStatusView
		if err := c.read(ctx, "/engine", "engine modes", &s); err != nil {
			return err
		}
		t := newTable(a.stdout, "NAME", "MODE", "STATE")
		for _, r := range s.Clients {
			if c.Name == "" || c.Name == r.Target {
				t.row(r.Target, r.Mode, r.State)
			}
		}
		return t.flush()
	}
	mode := c.Mode
	if mode == "configured" {
		mode = ""
	} else {
		var m replayer.Mode
		if err := m.UnmarshalText([]byte(mode)); err != nil {
			return usage(err)
		}
	}
	if err := c.post(ctx, "/engine/mode", "engine mode", url.Values{"name": {c.Name}, "mode": {mode}}); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %s\n", c.Name, c.Mode)
	return err
}

// engineReportCmd compares.
type engineReportCmd struct {
	engineAt `embed:""`
	Since    string `name:"since" default:"24h" help:"Divergences since: a time, or how long ago."`
	JSON     bool   `name:"json" help:"Print JSON."`
}

// Run prints the report.
func (c *engineReportCmd) Run(ctx context.Context, a *app) error {
	path := "/engine/report?" + url.Values{"since": {c.Since}}.Encode()
	if c.JSON {
		return c.print(ctx, path, "engine report", a.stdout)
	}
	var r engineReportView
	if err := c.read(ctx, path, "engine report", &r); err != nil {
		return err
	}
	t := newTable(a.stdout, "NAME", "STATE", "LAG", "OK", "NOT COMPARED", "WARN", "CONFIG", "CRITICAL", "HEAD OK", "HEAD DIFFERS", "P50", "P99", "PRIMARY P50", "P99")
	for _, s := range r.Clients {
		if s.Role == replayer.Primary.String() {
			continue
		}
		t.row(s.Target, s.State, s.LagBlocks, s.Compared["ok"], s.Compared["not_compared"], s.Compared["warn"], s.Compared["config"], s.Compared["critical"],
			s.HeadState["ok"], s.HeadState["warn"]+s.HeadState["critical"],
			seconds(s.Latency.P50), seconds(s.Latency.P99), seconds(s.PrimaryLatency.P50), seconds(s.PrimaryLatency.P99))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, d := range r.Divergences {
		e := d.Event
		if _, err := fmt.Fprintf(a.stdout, "\n%s %s %s %s block %d %s: %s\n  primary   %s\n  secondary %s\n  %s\n",
			d.Stored.UTC().Format(time.RFC3339), d.Secondary, e.Class, e.Method, e.Number, e.Root, e.Why, e.PrimaryAnswer, e.SecondaryAnswer, e.Reproduce); err != nil {
			return err
		}
	}
	return nil
}

// clientView is a client as the commands read it from the pages.
type clientView struct {
	Target    string        `json:"target"`
	Role      string        `json:"role"`
	Mode      string        `json:"mode"`
	State     string        `json:"state"`
	Reason    string        `json:"reason"`
	Number    uint64        `json:"number"`
	LagBlocks uint64        `json:"lag_blocks"`
	Oldest    time.Duration `json:"oldest_unreplayed_ns"`

	Compared       map[string]uint64 `json:"compared"`
	HeadState      map[string]uint64 `json:"head_state"`
	Latency        latencies         `json:"latency"`
	PrimaryLatency latencies         `json:"primary_latency"`
}

// engineStatusView is the page /engine as the commands read it.
type engineStatusView struct {
	Clients []clientView `json:"clients"`
}

// engineReportView is the page /engine/report as the command reads it.
type engineReportView struct {
	Clients     []clientView `json:"clients"`
	Divergences []struct {
		Stored    time.Time `json:"stored"`
		Secondary string    `json:"secondary"`
		Event     struct {
			Class           string          `json:"class"`
			Why             string          `json:"why"`
			Method          string          `json:"method"`
			Root            string          `json:"root"`
			Number          uint64          `json:"number"`
			PrimaryAnswer   json.RawMessage `json:"primary_answer"`
			SecondaryAnswer string          `json:"secondary_answer"`
			Reproduce       string          `json:"reproduce"`
		} `json:"event"`
	} `json:"divergences"`
}

func seconds(s float64) string {
	if s == 0 {
		return "-"
	}
	return time.Duration(s * float64(time.Second)).Round(10 * time.Microsecond).String()
}
