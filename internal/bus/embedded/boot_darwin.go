package embedded

import "golang.org/x/sys/unix"

// bootID names the current run of the machine's kernel. kern.boottime would not do: it moves
// whenever the clock is set.
func bootID() (string, error) { return unix.Sysctl("kern.bootsessionuuid") }

// flushVolume writes everything that the kernel holds to the medium.
func flushVolume(string) error { return unix.Sync() }
