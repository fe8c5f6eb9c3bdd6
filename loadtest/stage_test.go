package loadtest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const metricsBefore = `# HELP millrace_ingress_stage_seconds Time.
# TYPE millrace_ingress_stage_seconds histogram
millrace_ingress_stage_seconds_bucket{stage="verify",le="0.001"} 10
millrace_ingress_stage_seconds_bucket{stage="verify",le="0.002"} 10
millrace_ingress_stage_seconds_bucket{stage="verify",le="+Inf"} 10
millrace_ingress_stage_seconds_sum{stage="verify"} 0.005
millrace_ingress_stage_seconds_count{stage="verify"} 10
go_goroutines 12
`

const metricsAfter = `millrace_ingress_stage_seconds_bucket{stage="verify",le="0.001"} 60
millrace_ingress_stage_seconds_bucket{stage="verify",le="0.002"} 110
millrace_ingress_stage_seconds_bucket{stage="verify",le="+Inf"} 110
millrace_ingress_stage_seconds_sum{stage="verify"} 0.105
millrace_ingress_stage_seconds_count{stage="verify"} 110
millrace_egress_stage_seconds_bucket{stage="send",priority="high",target="builder",le="0.001"} 1
millrace_egress_stage_seconds_bucket{stage="send",priority="high",target="builder",le="+Inf"} 1
millrace_egress_stage_seconds_sum{stage="send",priority="high",target="builder"} 0.001
millrace_egress_stage_seconds_count{stage="send",priority="high",target="builder"} 1
millrace_egress_stage_seconds_bucket{stage="send",priority="low",target="builder",le="0.001"} 0
millrace_egress_stage_seconds_bucket{stage="send",priority="low",target="builder",le="+Inf"} 1
millrace_egress_stage_seconds_sum{stage="send",priority="low",target="builder"} 0.005
millrace_egress_stage_seconds_count{stage="send",priority="low",target="builder"} 1
millrace_order_wire_to_wire_seconds_sum{priority="low",target="builder"} 0.005
millrace_order_wire_to_wire_seconds_count{priority="low",target="builder"} 5
millrace_ingress_stage_seconds_sum{stage="idle"} 0
millrace_ingress_stage_seconds_count{stage="idle"} 0
`

func TestStagesAreWhatCameBetweenTwoReadings(t *testing.T) {
	before, err := parseStages(strings.NewReader(metricsBefore))
	require.NoError(t, err)
	require.Len(t, before, 1)
	after, err := parseStages(strings.NewReader(metricsAfter))
	require.NoError(t, err)
	got := stagesBetween(before, after)
	require.Len(t, got, 3, "a stage that nothing went through is left out")
	verify := got[0]
	require.Equal(t, "ingress", verify.Part)
	require.Equal(t, "verify", verify.Name)
	require.Equal(t, uint64(100), verify.Count)
	require.InDelta(t, 1000, verify.Mean, 0.01)
	require.InDelta(t, 1000, verify.P50, 0.01, "half of them are in the first bucket")
	require.InDelta(t, 1980, verify.P99, 0.01, "linear inside the second")
	require.Equal(t, Stage{Part: "egress", Name: "send", Count: 2, Mean: 3000, P50: 1000, P99: 1000}, got[1], "classes together; beyond the last bound its value")
	require.Equal(t, "total", got[2].Name)
	require.Zero(t, got[2].P50, "no buckets")
}

func TestStagesComeFromTheAdminListener(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/metrics" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(metricsAfter))
	}))
	t.Cleanup(func() {
		srv.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	got, err := scrapeStages(t.Context(), srv.URL)
	require.NoError(t, err)
	require.Len(t, got, 4)
	_, err = scrapeStages(t.Context(), srv.URL+"/nothing")
	require.ErrorIs(t, err, errResponse)
	_, err = scrapeStages(t.Context(), "http://127.0.0.1:1")
	require.Error(t, err)
}

func FuzzParseStages(f *testing.F) {
	f.Add(metricsBefore)
	f.Add(metricsAfter)
	f.Add(`a_stage_seconds_bucket{stage="x",le="NaN"} NaN`)
	f.Add(`a_stage_seconds_sum{stage="`)
	f.Fuzz(func(t *testing.T, page string) {
		got, err := parseStages(strings.NewReader(page))
		if err == nil {
			stagesBetween(nil, got)
			stagesBetween(got, got)
		}
		require.LessOrEqual(t, len(got), len(page))
	})
}
