package regions

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Rate is a bandwidth in bits per second; zero: no bound.
type Rate int64

// maxRate bounds a bandwidth, bits per second: beyond it the emulation would be the bound.
const maxRate Rate = 100e9

// rateUnits are longest first, so that "Mbit" is not read as "bit".
var rateUnits = []struct { //nolint:gochecknoglobals // a constant table
	name string
	bits float64
}{{"Gbit", 1e9}, {"Mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}}

// String is the rate in its largest unit.
func (r Rate) String() string {
	if r == 0 {
		return "unbounded"
	}
	for _, u := range rateUnits {
		if float64(r) >= u.bits {
			return strconv.FormatFloat(float64(r)/u.bits, 'g', 6, 64) + " " + u.name + "/s"
		}
	}
	return "0 bit/s"
}

// UnmarshalYAML reads a number with its unit, such as 1Gbit or 250kbit. In JSON a rate is a number.
func (r *Rate) UnmarshalYAML(n *yaml.Node) error { return r.parse(n.Value) }

func (r *Rate) parse(text string) error {
	for _, u := range rateUnits {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || math.IsNaN(v) || v < 0 || v*u.bits > float64(maxRate) {
			break
		}
		*r = Rate(v * u.bits)
		return nil
	}
	return fmt.Errorf("%w: bandwidth %q is none such as 100Mbit", ErrTopology, text)
}

// takes is how long n bytes take at this rate.
func (r Rate) takes(n int) time.Duration {
	if r <= 0 {
		return 0
	}
	return time.Duration(float64(n) * 8 / float64(r) * float64(time.Second))
}
