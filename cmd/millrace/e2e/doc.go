// Package e2e shows on the running binary what the project promises: real processes, real
// connections, real kills. Its tests have the build tag e2e and run on Linux, because they watch
// processes through /proc; `make e2e` runs them with one kill of each kind, `make soak` with ten and
// with the long outages.
//
// Environment:
//
//   - MILLRACE_BIN: the binary; built from this module when not set.
//   - MILLRACE_E2E_ROUNDS: kills of each kind, default 1.
//   - MILLRACE_E2E_SOAK: when set, the outages last as long as they do in the promise, and ratios
//     of latencies are assertions instead of figures in the log.
//   - MILLRACE_E2E_SOAK_MINUTES: how long the soaks under kills last, each, with a kill a minute; 30 with
//     MILLRACE_E2E_SOAK, else about half a minute of one.
//   - MILLRACE_E2E_SOAK_RATE: their orders per second; without it 60 % of what is measured first.
//   - MILLRACE_E2E_REPORT: file to which each figure is appended.
//
// Every test owns its processes, ports and directories, and prints the ends of their logs when it
// fails. Those that wait most of their time run beside others, at lower rates, after those that need the machine
// to themselves; in a soak each runs alone.
package e2e
