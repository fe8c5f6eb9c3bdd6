package wire

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// deaf is a connection from which an answer is read that was made up.
type deaf struct {
	net.Conn
	r io.Reader
}

func (d deaf) Read(p []byte) (int, error) { return d.r.Read(p) }

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		yes, no, yes + yes, "HTTP/1.1 100 Continue\r\n\r\n" + yes, "HTTP/1.0 200\r\n\r\nx", "HTTP/1.1 204 No\r\n\r\nx", "HTTP/1.1 101 x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\nA: b\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nX: y\r\n\r\nz", "HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\nz",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, came []byte) {
		rest := bytes.NewReader(came)
		c := &Conn{cfg: &Config{MaxHead: most, MaxBody: most}, nc: deaf{r: rest}}
		c.br = bufio.NewReader(c)
		a, err := c.AnswerInto(http.MethodPost, nil)
		if a.Status == 0 {
			require.Error(t, err)
			require.False(t, c.intact)
			return
		}
		require.LessOrEqual(t, len(a.Body), most)
		require.False(t, a.Status >= 100 && a.Status <= 199 && a.Status != http.StatusSwitchingProtocols)
		if !c.intact {
			return
		}
		// What is left came after the answer, and is found before the connection is used again.
		br := bufio.NewReader(bytes.NewReader(came[:len(came)-rest.Len()]))
		for {
			same, err := http.ReadResponse(br, &http.Request{Method: http.MethodPost})
			require.NoError(t, err)
			all, err := io.ReadAll(same.Body)
			require.NoError(t, err)
			if same.StatusCode != a.Status {
				continue // before the answer
			}
			require.Equal(t, string(all), string(a.Body))
			require.False(t, same.Close)
			_, err = br.ReadByte()
			require.ErrorIs(t, err, io.EOF)
			return
		}
	})
}
