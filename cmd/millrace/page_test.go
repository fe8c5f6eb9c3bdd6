package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func ask(t *testing.T, parameters string) *query {
	t.Helper()
	return queryOf(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/page?"+parameters, nil))
}

func TestQueryReadsWhatAPageIsAsked(t *testing.T) {
	q := ask(t, "since=10m&until=2026-11-20T21:00:00Z&from=7&limit=3&name=x")
	require.Equal(t, q.now.Add(-10*time.Minute), q.moment("since"))
	require.True(t, time.Date(2026, 11, 20, 21, 0, 0, 0, time.UTC).Equal(q.moment("until")))
	require.Equal(t, q.moment("until"), q.instant("until"))
	require.Equal(t, uint64(7), q.from())
	require.Equal(t, 3, q.limit(20, 1000))
	require.Equal(t, "x", q.text("name"))
	require.NoError(t, q.err)
}

func TestQueryHasAValueForWhatIsNotAsked(t *testing.T) {
	q := ask(t, "limit=")
	require.Zero(t, q.moment("since"))
	require.Zero(t, q.instant("since"))
	require.Zero(t, q.from())
	require.Equal(t, 5, q.limit(5, 10))
	require.Empty(t, q.text("name"))
	require.NoError(t, q.err)
}

func TestQueryNamesTheFirstParameterThatItCantRead(t *testing.T) {
	for parameters, name := range map[string]string{
		"since=soon": "since:", "until=later": "until:", "from=-1": "from: not a sequence",
		"limit=0": "limit: not a number from 1 to 1000", "limit=1001": "limit:", "limit=x": "limit:",
		"since=soon&limit=x": "since:",
	} {
		q := ask(t, parameters)
		q.moment("since")
		q.moment("until")
		q.from()
		q.limit(20, 1000)
		require.ErrorContains(t, q.err, name, parameters)
	}
}

func TestInstantIsNoDuration(t *testing.T) {
	q := ask(t, "since=1h")
	require.Zero(t, q.instant("since"))
	require.ErrorContains(t, q.err, "since:")
}

func TestStreamThatBreaksOffIsLoggedUnlessItsReaderLeft(t *testing.T) {
	logged := 0
	log := func(context.Context) { logged++ }
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/page", nil)
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { breakOff(r, log) })
	require.Equal(t, 1, logged)
	left, leave := context.WithCancel(t.Context())
	leave()
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { breakOff(r.WithContext(left), log) })
	require.Equal(t, 1, logged)
}
