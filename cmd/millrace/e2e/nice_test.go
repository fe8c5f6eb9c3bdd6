//go:build e2e && linux

package e2e

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// wantedAhead is by how much this process goes before those that it starts. Senders and builders are on other
// machines, where no load of ours keeps them from a processor: without it a latency at a saturated
// machine would be mostly what the sink waited for one. Zero where we may not.
const wantedAhead = 5

// ahead is what was possible of it.
var ahead int

// goAhead raises this process; threads made later inherit it.
func goAhead() {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, task := range tasks {
		if id, err := strconv.Atoi(task.Name()); err != nil || syscall.Setpriority(syscall.PRIO_PROCESS, id, -wantedAhead) != nil {
			return
		}
	}
	ahead = wantedAhead
}

// niced is the binary with the given niceness, whatever ours is.
func niced(n int, args ...string) *exec.Cmd {
	if n += ahead; n == 0 {
		return exec.Command(binary, args...)
	}
	return exec.Command("nice", append([]string{"-n", strconv.Itoa(n), binary}, args...)...)
}
