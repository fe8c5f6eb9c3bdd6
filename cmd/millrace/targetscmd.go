package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"time"
)

// targetsCmd looks after the targets in the streams.
type targetsCmd struct {
	List   targetsListCmd   `cmd:"" help:"Print the targets that the streams hold orders for, served or not."`
	Remove targetsRemoveCmd `cmd:"" help:"Remove a target that nobody serves: what it is owed is recorded as target_removed, then its consumers are deleted."`
}

// targetsListCmd prints the targets.
type targetsListCmd struct {
	adminAt `embed:""`
	JSON    bool `name:"json" help:"Print JSON."`
}

// Run prints the targets.
func (c *targetsListCmd) Run(ctx context.Context, a *app) error {
	if c.JSON {
		return c.print(ctx, "/targets", "list targets", a.stdout)
	}
	var rows []targetRow
	if err := c.read(ctx, "/targets", "list targets", &rows); err != nil {
		return err
	}
	t := newTable(a.stdout, "NAME", "STATE", "PENDING", "ACK PENDING", "OLDEST", "FINGERPRINT")
	for _, r := range rows {
		state, oldest := "unserved", "-"
		if r.Served {
			state = "served"
		}
		if r.Oldest > 0 {
			oldest = time.Duration(r.Oldest * float64(time.Second)).Round(time.Millisecond).String()
		}
		t.row(r.Name, state, r.Pending, r.AckPending, oldest, r.Fingerprint)
	}
	return t.flush()
}

// targetsRemoveCmd removes a target.
type targetsRemoveCmd struct {
	adminAt `embed:""`
	Name    string `arg:"" help:"Name of the target."`
}

// Help is the long help text.
func (targetsRemoveCmd) Help() string {
	return `A builder that left the configuration while no process delivered to it keeps its orders: its absence may be a mistake. What it is owed can't be purged, so at last the store is full and the door closes. This command ends it for good. It is refused while a process serves the target: take the builder out of that one's configuration and reload it instead.

Needs the admin token: --token-file, otherwise data/admin.token in the working directory.`
}

// Run removes the target.
func (c *targetsRemoveCmd) Run(ctx context.Context, a *app) error {
	if c.TokenFile == "" {
		c.TokenFile = filepath.Join("data", "admin.token")
	}
	resp, err := c.do(ctx, http.MethodPost, "/targets/remove?"+url.Values{"name": {c.Name}}.Encode(), "remove target")
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	_, err = fmt.Fprintf(a.stdout, "removed %s\n", c.Name)
	return err
}
