//go:build e2e && linux

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	urls "net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
)

// childVariable makes this test binary something else: what is measured is called over processes, as in life.
const childVariable = "MILLRACE_E2E_CHILD"

// child is what this process is for, if it is for no tests. It prints where it listens and ends with its input.
func child(what string) int {
	kind, arg, _ := strings.Cut(what, " ")
	var url string
	var err error
	switch kind {
	case "client":
		f := eltest.NewFake(eltest.Config{})
		err = f.Start()
		url = f.URL()
	case "relay":
		url, err = relay(arg)
	case "proxy":
		s := httptest.NewServer(httputil.NewSingleHostReverseProxy(&urls.URL{Scheme: "http", Host: arg}))
		url = s.URL
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(url)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// relay passes on whatever comes, to target and back, without looking at it: the least that anything between
// two processes costs.
func relay(target string) (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go forward(l, target)
	return "http://" + l.Addr().String(), nil
}

// forward connects whoever comes to a listener with target, until the listener is closed.
func forward(l net.Listener, target string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			d, err := net.Dial("tcp", target)
			if err != nil {
				return
			}
			defer d.Close()
			go pass(d, c)
			pass(c, d)
		}()
	}
}

// pass copies by reads and writes; splice takes more calls for small messages.
func pass(to io.Writer, from io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			_, _ = to.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// startChild starts this binary as something else until the test ends, and returns where it listens.
func startChild(t *testing.T, what string) (url string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+what)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line)
}
