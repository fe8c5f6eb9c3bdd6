package peers

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"
)

// Everything of echo is in this file, so that leaving v4 is a change of one file (ADR 0001).

func (d *Door) routes() http.Handler {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = echo.ExtractIPDirect()
	e.HTTPErrorHandler = plainError
	e.POST("/", func(c echo.Context) error {
		d.serve(c.Response().Writer, c.Request())
		return nil
	})
	e.GET("/livez", func(c echo.Context) error { return c.NoContent(http.StatusOK) })
	e.GET("/readyz", func(c echo.Context) error {
		if err := d.Ready(); err != nil {
			return c.String(http.StatusServiceUnavailable, err.Error())
		}
		return c.String(http.StatusOK, "OK")
	})
	return e
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
