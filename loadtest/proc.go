package loadtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// clockTick is the unit of CPU times in /proc, which Linux fixes at 100 per second for user space.
const clockTick = 10 * time.Millisecond

// Usage is what processes used, from /proc: only on Linux.
type Usage struct {
	CPU     time.Duration // user and system, children not included
	RSS     int64         // resident now, bytes, summed
	PeakRSS int64         // highest ever, bytes, summed
	Major   uint64        // major page faults
}

// ReadUsage adds up the usage of the given processes. One that has ended is left out.
func ReadUsage(pids []int) (Usage, error) {
	var u Usage
	for _, pid := range pids {
		one, err := readProcess(pid)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return Usage{}, err
		}
		u.CPU += one.CPU
		u.RSS += one.RSS
		u.PeakRSS += one.PeakRSS
		u.Major += one.Major
	}
	return u, nil
}

func readProcess(pid int) (Usage, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	}
	return parseUsage(stat, status)
}

// parseUsage reads /proc/<pid>/stat and status. The command in stat may hold blanks and parentheses,
// so fields count from the last closing one.
func parseUsage(stat, status []byte) (Usage, error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[end+1:])
	if end < 0 || len(fields) < 13 {
		return Usage{}, fmt.Errorf("read usage: %w", errResponse)
	}
	number := func(i int) uint64 {
		n, _ := strconv.ParseUint(string(fields[i]), 10, 64)
		return n
	}
	u := Usage{
		CPU:   time.Duration(number(11)+number(12)) * clockTick, //nolint:gosec // a duration in ticks
		Major: number(9),
	}
	u.RSS, u.PeakRSS = kilobytes(status, "VmRSS:"), kilobytes(status, "VmHWM:")
	return u, nil
}

func kilobytes(status []byte, key string) int64 {
	i := bytes.Index(status, []byte(key))
	if i < 0 {
		return 0
	}
	fields := bytes.Fields(status[i+len(key):])
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(string(fields[0]), 10, 64)
	return n << 10
}
