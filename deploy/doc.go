// Package deploy holds what an operator deploys Millrace with, and the tests that keep it true: systemd
// units, a Dockerfile, compose and Kubernetes manifests, Prometheus rules and a Grafana dashboard. The
// configurations of nats-server are written by `millrace bus-config`, because they hold fresh keys.
//
// Every metric, configuration key and command that a file names must exist in the binary, and each
// file is read by the tool that will read it, where that tool can be had: promtool, systemd-analyze,
// the Kubernetes types, the compose specification.
package deploy
