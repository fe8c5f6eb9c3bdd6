package deploy

import (
	"os/exec"
	"strings"
)

// helpOf is the help of a command with all its flags; empty when there is no such command. A second
// word may be a subcommand or an argument.
func helpOf(known map[string]string, first, second string) string {
	for _, args := range [][]string{{first, second}, {first}} {
		name := first + " " + args[len(args)-1]
		h, ok := known[name]
		if !ok {
			out, err := exec.Command(millrace, append(args, "--help")...).CombinedOutput()
			if err == nil {
				h = string(out)
			}
			if strings.Contains(h, "\n  "+first+" run ") { // what the command does by default, with its flags
				h += helpOf(known, first, "run")
			}
			known[name] = h
		}
		if h != "" {
			return h
		}
	}
	return ""
}
