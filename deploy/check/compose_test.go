package check

import (
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

// project loads the compose file as docker compose does, schema and references included.
func project(t *testing.T, profiles ...string) *types.Project {
	t.Helper()
	o, err := cli.NewProjectOptions([]string{"../compose/compose.yaml"}, cli.WithEnv([]string{"BUILDER_URL=http://builder:8645"}),
		cli.WithoutEnvironmentResolution, cli.WithProfiles(profiles))
	require.NoError(t, err)
	p, err := o.LoadProject(t.Context())
	require.NoError(t, err)
	return p
}

func TestComposeRunsEachRoleWithItsOwnKeyAndNothingElse(t *testing.T) {
	p := project(t, "gateway")
	require.Len(t, p.Services, 6)
	for name, s := range p.Services {
		require.True(t, s.ReadOnly, name)
		require.Equal(t, []string{"ALL"}, s.CapDrop, name)
		require.Contains(t, s.SecurityOpt, "no-new-privileges:true", name)
		require.NotNil(t, s.StopGracePeriod, name)
		if name == "nats" {
			continue
		}
		require.GreaterOrEqual(t, time.Duration(*s.StopGracePeriod), 75*time.Second, name)
		require.Len(t, s.Secrets, 1, name)
		want := name + ".nk"
		if name == "streams" {
			want = "admin.nk"
		}
		require.Equal(t, want, s.Secrets[0].Source)
		require.True(t, strings.HasSuffix(s.EnvFiles[0].Path, "site/"+strings.TrimSuffix(want, ".nk")+".env"), name)
	}
	require.Contains(t, []string{"ingress"}, p.Services["ingress"].Command[0])
}

func TestComposeHasAGatewayForWhoAsks(t *testing.T) {
	require.NotContains(t, project(t).Services, "gateway")
	for _, p := range project(t, "gateway").Services["gateway"].Ports {
		require.Equal(t, "127.0.0.1", p.HostIP, "whoever reaches it may change its nodes")
	}
}

func TestComposeAsksForABuilder(t *testing.T) {
	o, err := cli.NewProjectOptions([]string{"../compose/compose.yaml"}, cli.WithoutEnvironmentResolution)
	require.NoError(t, err)
	_, err = o.LoadProject(t.Context())
	require.ErrorContains(t, err, "where orders are delivered to")
}
