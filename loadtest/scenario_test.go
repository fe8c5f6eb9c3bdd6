package loadtest

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRunAgainstADoorThatKeepsItsPromises(t *testing.T) {
	sink, url := startSink(t)
	d := newFakeDoor(t, url)
	flow := Flow{URLs: []string{d.door.URL}, Rate: 2000, Count: 150, Corpus: CorpusConfig{Seed: 1, Mix: Mix{{ShapeBundle, 3}, {ShapeTransaction, 1}}}}
	a, b := flow, flow
	a.Name, b.Name = "a", "b"
	rep, err := Run(t.Context(), Scenario{
		Flows: []Flow{a, b}, Sink: sink, Admin: d.door.URL, Expect: Expect{Targets: []string{"builder"}}, PIDs: []int{os.Getpid()},
	})
	require.NoError(t, err)
	require.NoError(t, rep.Check.Err())
	require.Equal(t, 300, rep.Check.Accepted)
	require.Equal(t, 300, rep.Check.Taken)
	require.Equal(t, map[string]int{"delivered": 300}, rep.Check.Outcomes)
	require.Len(t, rep.Flows, 2)
	for _, f := range rep.Flows {
		require.Equal(t, 150, f.Sent)
		require.Equal(t, int64(150), f.Answer.Count)
		require.Equal(t, int64(150), f.Wire.Count)
		require.LessOrEqual(t, f.Answer.P50, f.Answer.P99)
	}
	require.Positive(t, rep.PeakRSS)

	var table, asJSON bytes.Buffer
	require.NoError(t, rep.WriteTable(&table))
	require.Contains(t, table.String(), "every promise kept")
	require.NoError(t, rep.WriteJSON(&asJSON))
	var back Report
	require.NoError(t, json.Unmarshal(asJSON.Bytes(), &back))
	require.Equal(t, rep.Flows, back.Flows)
}

func TestRunWithoutALedgerPresumesWhatWasSuperseded(t *testing.T) {
	sink, url := startSink(t)
	d := newFakeDoor(t, url)
	// One key: each order but the last is replaced by the next, and every other never reaches the builder.
	const orders = 40
	d.fault = func(tag Tag) fault { return fault{lose: tag.Seq%2 == 0 && tag.Seq < orders-1} }
	rep, err := Run(t.Context(), Scenario{
		Flows: []Flow{{
			Name: "a", URLs: []string{d.door.URL}, Count: orders, Connections: 1,
			Corpus: CorpusConfig{Seed: 1, Mix: Only(ShapeReplacement), Keys: 1, Signers: 1},
		}},
		Sink: sink, Settle: time.Minute,
	})
	require.NoError(t, err)
	require.NoError(t, rep.Check.Err())
	require.Equal(t, orders, rep.Check.Accepted)
	require.Equal(t, orders/2, rep.Check.Taken)
	require.Equal(t, orders/2, rep.Check.Superseded)
	require.Zero(t, rep.lost())
	var table bytes.Buffer
	require.NoError(t, rep.WriteTable(&table))
	require.Contains(t, table.String(), "20 superseded (presumed)")
	require.Contains(t, table.String(), "every promise kept")
}

func TestRunFindsWhatADoorLosesAndRepeats(t *testing.T) {
	sink, url := startSink(t)
	d := newFakeDoor(t, url)
	d.fault = func(tag Tag) fault {
		switch tag.Seq {
		case 3:
			return fault{lose: true}
		case 5:
			return fault{twice: true}
		case 6:
			return fault{twice: true, marked: true}
		case 7:
			return fault{twoRecords: true}
		}
		return fault{}
	}
	rep, err := Run(t.Context(), Scenario{
		Flows: []Flow{{Name: "a", URLs: []string{d.door.URL}, Count: 20, Corpus: CorpusConfig{Seed: 1, Mix: Only(ShapeBundle)}}},
		Sink:  sink, Admin: d.door.URL, Expect: Expect{Targets: []string{"builder"}, Window: 2}, Settle: 10 * time.Millisecond,
	})
	require.NoError(t, err)
	require.Equal(t, map[Break]int{BreakLost: 1, BreakTwice: 1, BreakTwoRecords: 1}, rep.Check.Breaks)
	require.Equal(t, 2, rep.Check.Repeated)
	var table bytes.Buffer
	require.NoError(t, rep.WriteTable(&table))
	require.Contains(t, table.String(), string(BreakLost))
}

func TestRunNeedsAFlowAndAReadableLedger(t *testing.T) {
	_, err := Run(t.Context(), Scenario{})
	require.ErrorIs(t, err, ErrConfig)
	sink, url := startSink(t)
	d := newFakeDoor(t, url)
	_, err = Run(t.Context(), Scenario{
		Flows: []Flow{{URLs: []string{d.door.URL}, Count: 1}}, Sink: sink, Admin: d.door.URL + "/nothing", Settle: time.Millisecond,
	})
	require.ErrorContains(t, err, "fetch ledger")
}

func TestCommandIsSinkAndSenderInOne(t *testing.T) {
	sink, url := startSink(t)
	d := newFakeDoor(t, url)
	load := Load{Duration: 50 * time.Millisecond, Rate: 200, Connections: 4}
	c := Command{Load: load, URL: []string{d.door.URL}, Sink: true, SinkListen: "127.0.0.1:0", Output: Output{JSON: true}}
	// The door delivers to another sink, so the command's own must miss everything.
	sinkless := c
	var out bytes.Buffer
	ctx := t.Context()
	require.NoError(t, (&Command{Load: load, URL: c.URL, SinkListen: "127.0.0.1:0"}).Run(ctx, &out))
	require.Contains(t, out.String(), "load")
	require.NotEmpty(t, sink.Receipts())
	require.ErrorIs(t, runShort(t, &sinkless, &out), ErrViolations)
	require.Contains(t, out.String(), `"accepted_without_record"`)
}

// runShort runs a command that must find losses without its long wait for them.
func runShort(t *testing.T, c *Command, out *bytes.Buffer) error {
	t.Helper()
	c.Settle = time.Millisecond
	return c.Run(t.Context(), out)
}
