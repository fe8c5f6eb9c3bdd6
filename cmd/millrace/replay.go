package main

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"millrace/egress/replay"
	"millrace/internal/order"
)

// replayCmd sends again what was recorded.
type replayCmd struct {
	Orders replayOrdersCmd `cmd:"" help:"Send recorded orders again, to an order door or to a builder."`
	Engine replayEngineCmd `cmd:"" help:"Send recorded calls of the Engine API to an execution client, and compare its answers."`
}

// replayOrdersCmd replays orders.
type replayOrdersCmd struct {
	settings `embed:""`
	adminAt  `embed:""`
	Store    string `name:"store" placeholder:"DIR" help:"Read the store of a node that is not running: its nats.store_dir."`

	Since   string `name:"since" default:"1h" help:"Orders received since: a time like 2026-11-20T21:00:00Z, or how long ago. Not with --from-seq."`
	FromSeq uint64 `name:"from-seq" help:"Orders from this sequence of the record on, whenever they were received."`
	Until   string `name:"until" help:"Orders received before: a time, or how long ago. Default: all that are recorded now."`
	Limit   int    `name:"limit" help:"End after so many orders; 0: none."`

	Filter []string `name:"filter" sep:"none" placeholder:"KEY=VALUE" help:"Only orders with this method, priority, signer, hash, tx or id. Of one key any of the values, of several keys all."`

	To          string `name:"to" placeholder:"URL" help:"Where to send: an order door, or with --as builder a builder. Needed unless --dry-run."`
	As          string `name:"as" default:"ingress" enum:"ingress,builder" help:"As a sender to an order door (ingress), or as we would to a builder."`
	Original    bool   `name:"original" xor:"key" help:"Send with the recorded signatures; the default with --as ingress."`
	Resign      string `name:"resign" xor:"key" placeholder:"KEY" help:"Sign with this key instead: a file with it, or hex, which can be seen in the process list."`
	Rate        string `name:"rate" default:"1x" help:"Recorded spacing times this: 1x, 5x, 0.5x; max: as fast as it is answered."`
	ShiftTime   bool   `name:"shift-time" help:"Move minTimestamp and maxTimestamp by as much as the order is sent later than it was. Needs --resign or --as builder."`
	ShiftBlocks int64  `name:"shift-blocks" help:"Add this to target blocks. Needs --resign or --as builder."`
	MarkFile    string `name:"mark-token-file" placeholder:"FILE" help:"File with the replay credential of a door for marked replays (ingress.replay_listen): what it takes is checked, answered and recorded apart, and goes to no builder."`
	Connections int    `name:"connections" default:"64" help:"Most requests on the wire."`
	Tries       int    `name:"tries" default:"5" help:"Most requests for one order that gets no answer."`
	DryRun      bool   `name:"dry-run" help:"Read, choose and build everything, and send nothing."`
	JSON        bool   `name:"json" help:"Print the report as JSON."`
}

// Help is the long help text.
func (replayOrdersCmd) Help() string {
	return `Reads the record of a running node through its admin listener (--admin, with the token in data/admin.token), of a NATS server (nats.url), or of a node that is stopped (--store). The door answers each order as it answers a sender; the report counts what it accepted, what it refused and why, and what got no answer.

Exit code 1 when orders were lost, could not be sent as asked, or came back under another hash, or when the replay was broken off. The first signal stops sending and waits for the answers on the way.

Example: millrace replay orders --since 10m --rate 5x --to http://127.0.0.1:9080`
}

// Run replays and reports.
func (c *replayOrdersCmd) Run(ctx context.Context, a *app) error {
	c.Keys.complete()
	cfg, err := c.plan()
	if err != nil {
		return usage(err)
	}
	var rules replay.Rules
	if cfg.As == replay.AsBuilder {
		chain, err := order.NewRules(c.Keys.Orders.ChainID)
		if err != nil {
			return usage(fmt.Errorf("orders.chain_id: %w", err))
		}
		chain.Warm() // not while the schedule runs
		rules = chain
	}
	to, err := c.target(ctx, &cfg)
	if err != nil {
		return err
	}
	defer to.Close()
	from, err := c.openRecording(ctx, a)
	if err != nil {
		return err
	}
	defer from.close()
	last, err := from.last(ctx)
	if err != nil {
		return err
	}
	r, err := replay.New(cfg, from, to, rules)
	if err != nil {
		return usage(err)
	}
	stop := showProgress(a.stderr, r, cfg, last)
	rep, err := r.Run(ctx)
	stop()
	return errors.Join(c.print(a, rep), err, rep.Err())
}

func (c *replayOrdersCmd) print(a *app, rep *replay.Report) error {
	if c.JSON {
		return rep.WriteJSON(a.stdout)
	}
	return rep.WriteText(a.stdout)
}

// plan is what the flags ask for.
func (c *replayOrdersCmd) plan() (cfg replay.Config, err error) {
	cfg = replay.Config{
		ShiftTime: c.ShiftTime, ShiftBlocks: c.ShiftBlocks, Limit: c.Limit, Connections: c.Connections, Tries: c.Tries,
		DryRun: c.DryRun, MaxTxs: c.Keys.Orders.MaxTxs, ChainID: c.Keys.Orders.ChainID,
	}
	if cfg.As, err = replay.ParseAs(c.As); err != nil {
		return cfg, err
	}
	if cfg.Speed, err = replay.ParseRate(c.Rate); err != nil {
		return cfg, err
	}
	for _, f := range c.Filter {
		if err := cfg.Filters.Add(f); err != nil {
			return cfg, err
		}
	}
	if err := c.bounds(&cfg.Range); err != nil {
		return cfg, err
	}
	if c.Resign != "" {
		if cfg.Key, err = privateKey(c.Resign); err != nil {
			return cfg, err
		}
	}
	switch {
	case c.Original && cfg.As == replay.AsBuilder:
		return cfg, errors.New("--original: a builder gets other bytes than the sender signed")
	case c.To == "" && !c.DryRun:
		return cfg, errors.New("--to: where to send is needed; a replay never goes to a node's own builders by itself")
	case c.MarkFile != "" && cfg.As == replay.AsBuilder:
		return cfg, errors.New("--mark-token-file: marks are for doors")
	}
	if c.TokenFile == "" {
		if local := filepath.Join("data", "admin.token"); exists(local) {
			c.TokenFile = local
		}
	}
	return cfg, cfg.Validate()
}

func (c *replayOrdersCmd) bounds(r *replay.Range) (err error) {
	now := time.Now()
	r.From = c.FromSeq
	if c.FromSeq == 0 {
		if r.Since, err = parseSince(c.Since, now); err != nil {
			return err
		}
	}
	if c.Until != "" {
		if r.Until, err = parseMoment("until", c.Until, now); err != nil {
			return err
		}
	}
	return nil
}

// privateKey reads a key in hex, or a file with one. Its errors don't repeat what they were given.
func privateKey(s string) (*ecdsa.PrivateKey, error) {
	text := s
	if data, err := os.ReadFile(s); err == nil {
		text = strings.TrimSpace(string(data))
	}
	key, err := crypto.HexToECDSA(strings.TrimPrefix(text, "0x"))
	if err != nil {
		return nil, errors.New("--resign: neither a private key in hex nor a file with one")
	}
	return key, nil
}

// sendCloser is where orders go.
type sendCloser interface {
	replay.Sender
	Close()
}

// target is the door or the builder. A door that is to mark what it gets is asked whether it does.
func (c *replayOrdersCmd) target(ctx context.Context, cfg *replay.Config) (sendCloser, error) {
	switch {
	case c.DryRun:
		return nowhere{}, nil
	case cfg.As == replay.AsBuilder:
		return newFeed(c.To, cfg)
	}
	mark := ""
	if c.MarkFile != "" {
		data, err := os.ReadFile(c.MarkFile)
		if err != nil {
			return nil, usage(err)
		}
		mark = strings.TrimSpace(string(data))
	}
	d, err := replay.NewDoor(c.To, mark, cfg.Connections)
	if err != nil {
		return nil, usage(err)
	}
	if err := d.Probe(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// nowhere is the target of a dry run.
type nowhere struct{}

// Send is not called.
func (nowhere) Send(context.Context, replay.Request) replay.Answer { return replay.Answer{} }

// Close does nothing.
func (nowhere) Close() {}
