package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
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
	resp, err := c.do(ctx, http.MethodGet, "/targets", "list targets")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if c.JSON {
		_, err := io.Copy(a.stdout, resp.Body)
		return err
	}
	var rows []targetRow
	if err := json.NewDecoder(resp.Body).Decode(&rows); err != nil {
		return fmt.Errorf("list targets: %w", err)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tPENDING\tACK PENDING\tOLDEST\tFINGERPRINT")
	for _, r := range rows {
		state, oldest := "unserved", "-"
		if r.Served {
			state = "served"
		}
		if r.Oldest > 0 {
			oldest = time.Duration(r.Oldest * float64(time.Second)).Round(time.Millisecond).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\n", printable(r.Name), state, r.Pending, r.AckPending, oldest, printable(r.Fingerprint))
	}
	return w.Flush()
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

// adminAt is a running process's admin listener.
type adminAt struct {
	Admin     string `name:"admin" default:"http://127.0.0.1:8090" help:"Admin listener of a running process of the pipeline."`
	TokenFile string `name:"token-file" placeholder:"FILE" help:"File with the admin token, needed for changes and when the listener is not on loopback."`
}

// do makes a request; any answer but 200 is an error that begins with what.
func (q *adminAt) do(ctx context.Context, method, path, what string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(q.Admin, "/")+path, nil)
	if err != nil {
		return nil, usage(err)
	}
	if q.TokenFile != "" {
		token, err := os.ReadFile(q.TokenFile)
		if err != nil {
			return nil, usage(err)
		}
		req.Header.Set("Authorization", "Bearer "+string(bytes.TrimSpace(token)))
	}
	resp, err := adminClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("is millrace running there? %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return nil, fmt.Errorf("%s: %s: %s", what, resp.Status, bytes.TrimSpace(text))
	}
	return resp, nil
}

// adminClient keeps no connection: each command makes one request.
var adminClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} //nolint:gochecknoglobals // immutable
