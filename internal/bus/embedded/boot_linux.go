package embedded

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// bootID names the current run of the machine's kernel.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// flushVolume writes everything that the kernel holds for dir's file system to the medium.
func flushVolume(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
