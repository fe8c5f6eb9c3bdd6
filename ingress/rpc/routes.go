package rpc

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"
)

// Everything of echo is in this file, so that leaving v4 is a change of one file (ADR 0001).

// handler is what the listener serves.
func (d *Door) handler() http.Handler {
	routes := d.routes()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "" { // of POST http://host HTTP/1.1
			r.URL.Path = "/"
		}
		routes.ServeHTTP(w, r)
	})
}

func (d *Door) routes() *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = func(r *http.Request) string { return d.Client(r).IP.String() }
	e.HTTPErrorHandler = plainError
	prio := plain(d.prio)
	if d.policy.Load().Dialect == DialectJSONRPC {
		rpc, other := plain(d.rpc), plain(d.other)
		for _, path := range []string{"/", "/*"} {
			e.POST(path, rpc)
			e.GET(path, other)
			e.OPTIONS(path, other)
		}
		e.POST("/sim", func(c echo.Context) error {
			if d.policy.Load().restrict {
				return echo.ErrNotFound // its methods are not read, and so would not be refused
			}
			return prio(c)
		})
		e.GET("/sim", func(echo.Context) error { return echo.ErrMethodNotAllowed })
		return e
	}
	e.GET("/", plain(d.name))
	e.POST("/", prio)
	e.POST("/sim", prio)
	if d.ports.Nodes != nil {
		e.GET("/nodes", plain(d.nodes))
		e.POST("/nodes", plain(d.changeNodes))
		e.DELETE("/nodes", plain(d.changeNodes))
	}
	return e
}

// plain gives a handler the writer below echo's, which knows deadlines without a search.
func plain(h http.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h(c.Response().Writer, c.Request())
		return nil
	}
}

// plainError answers what no route takes with its status alone.
func plainError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	status := http.StatusInternalServerError
	if he, ok := errors.AsType[*echo.HTTPError](err); ok {
		status = he.Code
	}
	_ = c.NoContent(status) // the client went away
}
