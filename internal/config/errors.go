package config

import "errors"

var (
	// ErrUnknown is a key or a MILLRACE_ variable that no flag stands for.
	ErrUnknown = errors.New("unknown")
	// ErrFile is a configuration file that can't be read as YAML.
	ErrFile = errors.New("bad configuration file")
)
