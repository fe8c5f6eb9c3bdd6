package deploy

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

const promtoolHow = "make promtool"

func TestPrometheusTakesTheConfigurationAndTheRules(t *testing.T) {
	promtool := tool(t, "promtool", promtoolHow)
	require.Contains(t, command(t, "prometheus", promtool, "check", "config", "prometheus.yml"), "SUCCESS")
	require.Contains(t, command(t, "prometheus", promtool, "check", "rules", "millrace.rules.yml"), "SUCCESS")
}

func TestAlertsFireWhenTheyShouldAndNotBefore(t *testing.T) {
	promtool := tool(t, "promtool", promtoolHow)
	require.Contains(t, command(t, "prometheus", promtool, "test", "rules", "millrace.test.yml"), "SUCCESS")
}

// rules is the rule file.
type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Record, Expr, For string
			Labels, Annotations      map[string]string
		}
	}
}

func readRules(t *testing.T) (r rules) {
	t.Helper()
	b, err := os.ReadFile("prometheus/millrace.rules.yml")
	require.NoError(t, err)
	d := yaml.NewDecoder(strings.NewReader(string(b)))
	d.KnownFields(true)
	require.NoError(t, d.Decode(&r))
	return r
}

func ruleExpressions(t *testing.T) (all []string) {
	t.Helper()
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			all = append(all, r.Expr)
		}
	}
	return all
}

func TestEveryAlertSaysHowUrgentItIsAndWhatToDo(t *testing.T) {
	alerts := map[string]bool{}
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			require.False(t, alerts[r.Alert], "%s twice", r.Alert)
			alerts[r.Alert] = true
			require.Contains(t, []string{"page", "ticket"}, r.Labels["severity"], r.Alert)
			require.NotEmpty(t, r.Annotations["summary"], r.Alert)
			require.NotEmpty(t, r.Annotations["description"], r.Alert)
		}
	}
	for _, about := range []string{
		"MillraceOrdersExpire", "MillraceQueueIsOld", "MillraceDoorClosed", "MillraceRecordPaused", "MillraceWatchdog",
		"MillraceSignersRecoveredTwice", "MillraceLeasesFlap", "MillraceFenced", "MillraceVolumeFills", "MillraceSlowToBuilder",
		"MillraceGatewayNoNode", "MillraceGatewayRefusesUrgent", "MillraceGatewayEjects", "MillraceGatewayLimitsNotShared", "MillraceGatewaySlowClients",
	} {
		require.True(t, alerts[about], about)
	}
}

// dashboard is what of the dashboard's model matters here.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct{ Name, Definition string }
	}
	Annotations struct{ List []struct{ Expr string } }
	Panels      []struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ H, W, X, Y int }
		Targets []struct{ RefID, Expr, LegendFormat string }
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	b, err := os.ReadFile("grafana/millrace.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &d))
	return d
}

func dashboardExpressions(t *testing.T) (all []string) {
	t.Helper()
	d := readDashboard(t)
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all = append(all, q.Expr)
		}
	}
	for _, v := range d.Templating.List {
		all = append(all, v.Definition)
	}
	return all
}

func TestDashboardPanelsFillTheGridWithoutOverlap(t *testing.T) {
	d := readDashboard(t)
	require.NotEmpty(t, d.UID)
	type cell struct{ x, y int }
	taken, ids, rows := map[cell]string{}, map[int]bool{}, 0
	for _, p := range d.Panels {
		require.False(t, ids[p.ID], "panel id %d twice", p.ID)
		ids[p.ID] = true
		require.NotEmpty(t, p.Title)
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				c := cell{p.GridPos.X + x, p.GridPos.Y + y}
				require.Empty(t, taken[c], "%s overlaps", p.Title)
				taken[c] = p.Title
			}
		}
		if p.Type == "row" {
			rows++
			continue
		}
		require.NotEmpty(t, p.Targets, p.Title)
		for _, q := range p.Targets {
			require.NotEmpty(t, q.LegendFormat, p.Title)
		}
	}
	require.GreaterOrEqual(t, rows, 6)
}

// TestDashboardExpressionsAreValid has the real parser read each expression, as a recording rule.
func TestDashboardExpressionsAreValid(t *testing.T) {
	promtool := tool(t, "promtool", promtoolHow)
	variables := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$target", ".*")
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rs []rule
	for _, e := range dashboardExpressions(t) {
		if e != "" && !strings.HasPrefix(e, "label_values(") {
			rs = append(rs, rule{"check:expression_" + strconv.Itoa(len(rs)), variables.Replace(e)})
		}
	}
	b, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rs}}})
	require.NoError(t, err)
	file := t.TempDir() + "/rules.yml"
	require.NoError(t, os.WriteFile(file, b, 0o600))
	require.Contains(t, command(t, "", promtool, "check", "rules", file), "SUCCESS")
}
