package hubtest

import (
	"io"
	"net/http"
	"strings"
)

// fail answers as the fault wants it.
func (h *Hub) fail(w http.ResponseWriter, r *http.Request, f Fault) {
	switch f {
	case FailStatus:
		http.Error(w, "the database is away", http.StatusInternalServerError)
	case ForbidStatus:
		w.WriteHeader(http.StatusForbidden)
	case RedirectAway:
		http.Redirect(w, r, "/elsewhere/api/l1-builder/v1/builders", http.StatusFound)
	case Hang:
		_, _ = io.Copy(io.Discard, r.Body) // so that the server sees the client leave
		select {
		case <-r.Context().Done():
		case <-h.gone:
		}
	case Reset:
		panic(http.ErrAbortHandler)
	case CutOff:
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `[{"name":"beta"`) // the client may have left
	case NotJSON:
		_, _ = io.WriteString(w, "<html>welcome</html>")
	case NotList:
		_, _ = io.WriteString(w, `{"builders":[]}`)
	case TooLarge:
		flood(w)
	case NullList:
		_, _ = io.WriteString(w, "null")
	case EmptyList:
		_, _ = io.WriteString(w, "[]")
	}
}

// flood sends until the client leaves.
func flood(w io.Writer) {
	chunk := "[" + strings.Repeat(" ", 64<<10)
	for {
		if _, err := io.WriteString(w, chunk); err != nil {
			return
		}
		chunk = strings.TrimPrefix(chunk, "[")
	}
}
