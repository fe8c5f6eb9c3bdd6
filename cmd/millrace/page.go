package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// query is what a page is asked. After the first parameter that can't be read the others are zero, and
// err says which it was.
type query struct {
	values url.Values
	now    time.Time
	err    error
}

func queryOf(r *http.Request) *query { return &query{values: r.URL.Query(), now: time.Now()} }

// read calls f with the parameter's text, if there is any.
func (q *query) read(name string, f func(text string) error) {
	if text := q.values.Get(name); text != "" && q.err == nil {
		q.err = f(text)
	}
}

// text is the parameter as it is.
func (q *query) text(name string) string { return q.values.Get(name) }

// moment is a time, or how long ago; zero when it is not given.
func (q *query) moment(name string) (at time.Time) {
	q.read(name, func(text string) (err error) {
		at, err = parseMoment(name, text, q.now)
		return err
	})
	return at
}

// instant is a time, and nothing that depends on when it is read; zero when it is not given.
func (q *query) instant(name string) (at time.Time) {
	q.read(name, func(text string) (err error) {
		if at, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	return at
}

// from is the sequence to begin with; zero when it is not given.
func (q *query) from() (n uint64) {
	q.read("from", func(text string) (err error) {
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			return errors.New("from: not a sequence")
		}
		return nil
	})
	return n
}

// limit is how much to answer with, from 1 to most.
func (q *query) limit(otherwise, most int) int {
	n := otherwise
	q.read("limit", func(text string) (err error) {
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > most {
			return fmt.Errorf("limit: not a number from 1 to %d", most)
		}
		return nil
	})
	return n
}

// defaultSince is how far back a reader sees who does not say.
const defaultSince = time.Hour

// parseSince reads what --since and ?since= say.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return now.Add(-defaultSince), nil
	}
	return parseMoment("since", s, now)
}

// parseMoment reads a time (RFC 3339) or how long before now; the name is for the error.
func parseMoment(name, s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d.Abs()), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %q is neither a time like 2026-11-20T21:00:00Z nor a duration like 10m", name, s)
	}
	return t, nil
}

// writeJSON answers with one object. An error means that the reader left.
func writeJSON(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// breakOff cuts the connection, the way to tell a reader that a stream has not come to its end. It is
// logged unless the reader left.
func breakOff(r *http.Request, log func(context.Context)) {
	if r.Context().Err() == nil {
		log(r.Context())
	}
	panic(http.ErrAbortHandler)
}
