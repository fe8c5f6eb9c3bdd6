package limit

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Rate is so many calls in a window; the zero Rate is no limit. As text it is "100/s", "6000/m", "20/10s", or, as
// axon-proxy has it, a number alone, which is per minute; "0" or nothing is no limit.
type Rate struct {
	Count  int
	Window time.Duration
}

// ErrRate is what is no rate.
var ErrRate = errors.New("not a rate such as 100/s or 6000/m")

const (
	minWindow = 100 * time.Millisecond
	maxWindow = 24 * time.Hour
	maxCount  = math.MaxInt32 / 2
)

// ParseRate reads a rate.
func ParseRate(s string) (Rate, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Rate{}, nil
	}
	number, per, found := strings.Cut(s, "/")
	n, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil || n < 0 || n > maxCount {
		return Rate{}, fmt.Errorf("%w: %.40q", ErrRate, s)
	}
	r := Rate{Count: n, Window: time.Minute}
	if found {
		per = strings.TrimSpace(per)
		if per != "" && (per[0] < '0' || per[0] > '9') {
			per = "1" + per
		}
		if r.Window, err = time.ParseDuration(per); err != nil || r.Window < minWindow || r.Window > maxWindow {
			return Rate{}, fmt.Errorf("%w: %.40q", ErrRate, s)
		}
	}
	if n == 0 {
		return Rate{}, nil
	}
	return r, nil
}

// String is the rate as ParseRate reads it.
func (r Rate) String() string {
	switch {
	case r.Count == 0:
		return "0"
	case r.Window == time.Second:
		return strconv.Itoa(r.Count) + "/s"
	case r.Window == time.Minute:
		return strconv.Itoa(r.Count) + "/m"
	case r.Window == time.Hour:
		return strconv.Itoa(r.Count) + "/h"
	default:
		return strconv.Itoa(r.Count) + "/" + r.Window.String()
	}
}

// MarshalText is String.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRate.
func (r *Rate) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRate(string(b))
	return err
}
