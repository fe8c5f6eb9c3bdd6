package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"millrace/internal/telemetry"
)

// versionCmd prints what this binary is.
type versionCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Help is the long help text.
func (versionCmd) Help() string {
	return "Prints version, commit, Go release, and which secp256k1 recovers signatures: libsecp256k1 through cgo, or pure Go, which takes about four times as long for each."
}

// Run prints the build.
func (c *versionCmd) Run(a *app) error {
	b := build()
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(b)
	}
	_, err := fmt.Fprintf(a.stdout, "millrace %s\ncommit     %s\ngo         %s %s/%s\nsecp256k1  %s (%s)\n",
		b.Version, b.Commit, b.Go, runtime.GOOS, runtime.GOARCH, b.Secp256k1, secp256k1Consequence)
	return err
}

func build() telemetry.Build {
	b := telemetry.Build{Version: version, Commit: "unknown", Go: runtime.Version(), Secp256k1: secp256k1}
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range bi.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.Commit = s.Value + b.Commit[len("unknown"):]
		case s.Key == "vcs.modified" && s.Value == "true":
			b.Commit += "+changes"
		}
	}
	return b
}
