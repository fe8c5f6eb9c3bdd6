package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// adminAt is a running process's admin listener.
type adminAt struct {
	Admin     string `name:"admin" default:"http://127.0.0.1:8090" help:"Admin listener of a running process of the pipeline."`
	TokenFile string `name:"token-file" placeholder:"FILE" help:"File with the admin token, needed for changes and when the listener is not on loopback."`
}

// do makes a request; any answer but 200, and 204 for a change, is an error that begins with what.
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
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return nil, fmt.Errorf("%s: %s: %s", what, resp.Status, bytes.TrimSpace(text))
	}
	return resp, nil
}

// read reads a page that is one JSON object into answer.
func (q *adminAt) read(ctx context.Context, path, what string, answer any) error {
	resp, err := q.do(ctx, http.MethodGet, path, what)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// print prints a page as it is.
func (q *adminAt) print(ctx context.Context, path, what string, to io.Writer) error {
	resp, err := q.do(ctx, http.MethodGet, path, what)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(to, resp.Body)
	return err
}

// adminClient keeps no connection: each command makes one request.
var adminClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} //nolint:gochecknoglobals // immutable
