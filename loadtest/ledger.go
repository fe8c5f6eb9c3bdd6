package loadtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// AnyTarget is the target of a record that ends an order for all targets.
const AnyTarget = "*"

// Record is one terminal record as the admin listener's /ledger gives it, a JSON object per line.
type Record struct {
	Accept    string         `json:"accept"` // 32 hex digits
	ID        string         `json:"id"`     // 64 hex digits
	Hash      common.Hash    `json:"hash"`
	Signer    common.Address `json:"signer"`
	Target    string         `json:"target"`
	Outcome   string         `json:"outcome"`
	Ambiguous bool           `json:"ambiguous"`
	Repeat    bool           `json:"repeat"`
	Of        string         `json:"of"`
	Priority  string         `json:"priority"`
	Received  time.Time      `json:"received_at"`
	Done      time.Time      `json:"done_at"`
}

// FetchLedger reads every terminal record stored since a time from an admin listener.
func FetchLedger(ctx context.Context, admin string, since time.Time) ([]Record, error) {
	u := admin + "/ledger?since=" + url.QueryEscape(since.UTC().Format(time.RFC3339Nano))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch ledger: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch ledger: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch ledger: %w: %s", errResponse, resp.Status)
	}
	var rs []Record
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(make([]byte, 64<<10), 1<<20)
	for sc.Scan() {
		if len(sc.Bytes()) == 0 {
			continue
		}
		var r Record
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("fetch ledger: record %d: %w", len(rs), err)
		}
		rs = append(rs, r)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("fetch ledger: %w", err)
	}
	return rs, nil
}
