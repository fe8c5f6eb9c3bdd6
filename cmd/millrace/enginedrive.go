package main

import (
	"context"
	"fmt"
	"time"

	"millrace/internal/eltest/drive"
	"millrace/internal/engineapi"
	"millrace/internal/retry"
)

// engineDriveCmd is a consensus client for demonstrations.
type engineDriveCmd struct {
	To        string        `name:"to" required:"" placeholder:"URL" help:"Engine API to drive."`
	JWTSecret string        `name:"jwt-secret" required:"" placeholder:"FILE" help:"File with the secret for the tokens."`
	Genesis   string        `name:"genesis" required:"" placeholder:"FILE" help:"Genesis file of the execution client's chain: it says which fork a slot has."`
	Slots     int           `name:"slots" default:"32" help:"How many slots."`
	Every     time.Duration `name:"every" default:"200ms" help:"Pause between slots."`
	Random    bool          `name:"random" help:"With reorganisations, repeats, orphans and missed slots."`
	Seed      uint64        `name:"seed" default:"1" help:"Of what is random."`
}

// Help is the long help text.
func (engineDriveCmd) Help() string {
	return `Has the execution client build a block a slot and makes it the head, in the methods of the fork that the genesis file gives the slot. Timestamps run ahead of the clock. For clients of a test network without another consensus client, and for demonstrations of millrace engine.`
}

// Run drives.
func (c *engineDriveCmd) Run(ctx context.Context, a *app) error {
	secret, err := engineapi.LoadSecret(c.JWTSecret)
	if err != nil {
		return usage(err)
	}
	genesis, err := drive.ReadGenesis(c.Genesis)
	if err != nil {
		return usage(err)
	}
	d := drive.New(drive.Config{Target: drive.Endpoint{URL: c.To, Secret: secret}, Genesis: genesis, Seed: c.Seed})
	if err := d.Sync(ctx); err != nil {
		return err
	}
	slot := d.Step
	if c.Random {
		slot = d.Random
	}
	for i := range c.Slots {
		if err := slot(ctx); err != nil {
			return fmt.Errorf("slot %d: %w", d.Slot(), err)
		}
		if _, err := fmt.Fprintf(a.stdout, "slot %d block %d %s\n", d.Slot(), d.Head().Number, d.Head().Hash); err != nil {
			return err
		}
		if i+1 < c.Slots && !retry.Pause(ctx, c.Every) {
			return nil
		}
	}
	return nil
}
