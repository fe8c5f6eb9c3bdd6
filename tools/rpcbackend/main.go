// Rpcbackend is an execution node for measuring what stands in front of it: it answers every HTTP request with the same
// JSON-RPC answer, and costs as little as it can.
//
//	rpcbackend 127.0.0.1:18100 80
//
// With a third argument, http, it is net/http with a handler of one line: the least that a door on net/http can cost.
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: rpcbackend ADDRESS BYTES-OF-AN-ANSWER [http]")
	}
	const frame = len(`{"jsonrpc":"2.0","id":1,"result":"0x"}`)
	size, err := strconv.Atoi(os.Args[2])
	if err != nil || size < frame {
		log.Fatalf("an answer has at least %d bytes", frame)
	}
	body := `{"jsonrpc":"2.0","id":1,"result":"0x` + strings.Repeat("0", size-frame) + `"}`
	if len(os.Args) > 3 {
		log.Fatal(http.ListenAndServe(os.Args[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		})))
	}
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(c, answer)
	}
}

// serve reads heads and passes over bodies until the connection ends.
func serve(c net.Conn, answer []byte) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 64<<10)
	for {
		length := 0
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				break
			}
			if value, ok := strings.CutPrefix(strings.ToLower(line), "content-length: "); ok {
				length, _ = strconv.Atoi(strings.TrimSpace(value))
			}
		}
		if _, err := r.Discard(length); err != nil {
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}
