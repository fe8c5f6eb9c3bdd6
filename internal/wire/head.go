package wire

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// ErrHeader refuses a header that would not be one line.
var ErrHeader = errors.New("not a header line")

// Head is what is the same in the head of every request of one kind. It may be used by many at once.
type Head struct {
	before []byte // the request line, Host and User-Agent
	after  []byte // what follows the length
	empty  emptiness
}

// emptiness is what is said of the length of no body.
type emptiness uint8

const (
	nothing emptiness = iota + 1
	zero
)

// NewHead has net/http write the head of requests to u with these headers, so that its rules for hosts, paths
// and values hold. The user of u becomes basic authentication. No error repeats u: it may hold a password.
func NewHead(method string, u *url.URL, header http.Header) (*Head, error) {
	if !httpguts.ValidHeaderFieldName(method) { // a token, too, which net/http does not look at here
		return nil, fmt.Errorf("%w: %q", ErrHeader, method)
	}
	r := &http.Request{
		Method: method, URL: u, Host: u.Host, Header: header.Clone(),
		ContentLength: 1, // only for the line of the length, see below
	}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if u.User != nil {
		password, _ := u.User.Password()
		r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)))
	}
	for name, values := range r.Header {
		for _, value := range values {
			if !isLine(name, value) {
				return nil, fmt.Errorf("%w: %q", ErrHeader, name)
			}
		}
	}
	const length, body = "Content-Length: 1\r\n", "x"
	r.Body = readCloser{strings.NewReader(body)}
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		return nil, err
	}
	h := &Head{empty: nothing}
	// Neither the line nor the host before it can have a line's end in it.
	before, after, _ := bytes.Cut(b.Bytes(), []byte(length))
	h.before, h.after = before, bytes.TrimSuffix(after, []byte("\r\n"+body))
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		h.empty = zero
	}
	return h, nil
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// Append adds the head of one request with a body of that length to b. Headers may follow (AppendHeader), and
// then AppendEnd.
func (h *Head) Append(b []byte, length int) []byte {
	b = append(b, h.before...)
	if length > 0 || h.empty == zero {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(length), 10)
		b = append(b, "\r\n"...)
	}
	return append(b, h.after...)
}

// AppendHeader adds one header to b. What would not be one line, for control characters in it, is refused with
// ErrHeader, and b returned as it was.
func AppendHeader(b []byte, name, value string) ([]byte, error) {
	if !isLine(name, value) {
		return b, ErrHeader
	}
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...), nil
}

// AppendEnd ends a head.
func AppendEnd(b []byte) []byte { return append(b, "\r\n"...) }

// ValidValue reports whether AppendHeader takes the value.
func ValidValue(value string) bool { return httpguts.ValidHeaderFieldValue(value) }

func isLine(name, value string) bool { return httpguts.ValidHeaderFieldName(name) && ValidValue(value) }
