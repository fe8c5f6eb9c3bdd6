package drive

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
)

const slotSeconds = 12

// Genesis is what a driver needs of a genesis file.
type Genesis struct {
	ChainID   uint64
	Timestamp uint64
	// The forks' times, Unix seconds; nil: never.
	Shanghai, Cancun, Prague, Osaka, Amsterdam *uint64
}

// ReadGenesis reads a genesis file as clients take it.
func ReadGenesis(path string) (Genesis, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Genesis{}, fmt.Errorf("read genesis: %w", err)
	}
	var file struct {
		Timestamp string `json:"timestamp"`
		Config    struct {
			ChainID   uint64  `json:"chainId"`
			Shanghai  *uint64 `json:"shanghaiTime"`
			Cancun    *uint64 `json:"cancunTime"`
			Prague    *uint64 `json:"pragueTime"`
			Osaka     *uint64 `json:"osakaTime"`
			Amsterdam *uint64 `json:"amsterdamTime"`
		} `json:"config"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return Genesis{}, fmt.Errorf("%s: %w", path, err)
	}
	timestamp, err := strconv.ParseUint(file.Timestamp, 0, 64)
	if err != nil {
		return Genesis{}, fmt.Errorf("%s: timestamp: %w", path, err)
	}
	c := file.Config
	return Genesis{
		ChainID: c.ChainID, Timestamp: timestamp, Shanghai: c.Shanghai, Cancun: c.Cancun,
		Prague: c.Prague, Osaka: c.Osaka, Amsterdam: c.Amsterdam,
	}, nil
}

// fork is the versions of the methods that a slot's block takes.
type fork struct{ forkchoice, payload, newPayload int }

// fork is the slot's fork.
func (g Genesis) fork(slot uint64) fork {
	at := g.Timestamp + slot*slotSeconds
	reached := func(t *uint64) bool { return t != nil && at >= *t }
	switch {
	case reached(g.Amsterdam):
		return fork{4, 6, 5}
	case reached(g.Osaka):
		return fork{3, 5, 4}
	case reached(g.Prague):
		return fork{3, 4, 4}
	case reached(g.Cancun):
		return fork{3, 3, 3}
	case reached(g.Shanghai):
		return fork{2, 2, 2}
	}
	return fork{1, 1, 1}
}
