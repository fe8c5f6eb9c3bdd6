package ingress

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"
)

// Everything of echo is in this file, so that leaving v4 is a change of one file (ADR 0001).

// orderRoutes is the order listener: POST / takes orders, GET tells health.
func (s *Server) orderRoutes() http.Handler {
	e := s.router()
	e.POST("/", func(c echo.Context) error {
		// The writer below echo's knows how to close a connection whose body is too large.
		s.serve(c.Response().Writer, c.Request())
		return nil
	})
	e.GET("/readyz", func(c echo.Context) error {
		if err := s.ready(); err != nil {
			return c.String(http.StatusServiceUnavailable, err.Error())
		}
		return c.String(http.StatusOK, "OK")
	})
	e.GET("/livez", alive)
	e.GET("/health", alive)
	return e
}

// builderRoutes is the builder listener.
func (s *Server) builderRoutes() http.Handler {
	e := s.router()
	e.POST("/", func(c echo.Context) error {
		body := http.MaxBytesReader(c.Response().Writer, c.Request().Body, builderBodyLimit)
		if err := s.builderStats(body); err != nil {
			return c.String(http.StatusBadRequest, err.Error())
		}
		return c.NoContent(http.StatusOK)
	})
	e.GET("/health", alive)
	return e
}

func alive(c echo.Context) error { return c.NoContent(http.StatusOK) }

func (s *Server) router() *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = func(r *http.Request) string { return client(r, s.policy.Load().trusted).String() }
	e.HTTPErrorHandler = plainError
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
