// Package config turns a kong command line into one configuration with three spellings: a key of
// the YAML file, an environment variable and a flag ("ingress.listen", MILLRACE_INGRESS_LISTEN,
// "--ingress.listen"). A flag wins over the environment, the environment over the file, the file
// over the default.
//
// The flags are the schema: there is no second list of keys that could differ. A key of the file or
// a MILLRACE_ variable that the schema does not know is an error with the nearest known name,
// because a misspelt limit that is silently ignored is worse than a process that does not start.
//
// The environment is handed in, never read: tests are hermetic, and kong's own environment look-up
// is switched off (see [Schema.Detach]). An empty variable counts as not set, as container
// manifests produce those.
package config
