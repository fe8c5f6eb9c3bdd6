package main

import (
	"errors"
	"strconv"
)

var (
	// errUsage is a command line or configuration that can't be meant: exit code 2.
	errUsage = errors.New("configuration")
	// errLogged is a failure that the log has told already.
	errLogged = errors.New("failed")
	// errReload is a reload that was refused; what was in force stays in force.
	errReload = errors.New("reload refused, the earlier configuration stays in force")
	// errLedger is a ledger that breaks the promise of one terminal record.
	errLedger = errors.New("ledger check failed")
)

// exitCode is how kong's help flag ends the parse.
type exitCode int //nolint:errname // a code, not a failure

func (c exitCode) Error() string { return "exit " + strconv.Itoa(int(c)) }
