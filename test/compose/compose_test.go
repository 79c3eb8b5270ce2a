// Package compose checks the files that ship Lethe in containers, which cannot be run where there is no engine.
package compose

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/stretchr/testify/require"
)

func TestComposeFile(t *testing.T) {
	t.Parallel()
	options, err := cli.NewProjectOptions(
		[]string{"../../docker-compose.yml"},
		cli.WithName("lethe"),
		cli.WithEnv([]string{"LETHE_DB_PASSWORD=not-a-secret", "LETHE_S3_SECRET=not-a-secret-either"}),
	)
	require.NoError(t, err)
	project, err := options.LoadProject(context.Background())
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"postgres", "s3", "migrate", "api", "worker"}, project.ServiceNames())

	api := project.Services["api"]
	require.Equal(t, "127.0.0.1", api.Ports[0].HostIP, "the API is not published beyond this machine")
	require.True(t, api.ReadOnly)
	for _, name := range []string{"api", "worker", "migrate"} {
		require.NotNil(t, project.Services[name].Build, "%s is built from this tree", name)
		url := project.Services[name].Environment["LETHE_DATABASE"]
		require.NotNil(t, url)
		require.Contains(t, *url, "not-a-secret@postgres:5432/")
	}
	require.Empty(t, project.Services["s3"].Ports, "objects are not published beyond the network of the services")
	require.Greater(t, time.Duration(*project.Services["worker"].StopGracePeriod), 30*time.Second, "a slice of 30 s reaches its checkpoint")
}

func TestComposeNeedsAPassword(t *testing.T) {
	t.Parallel()
	options, err := cli.NewProjectOptions([]string{"../../docker-compose.yml"}, cli.WithName("lethe"))
	require.NoError(t, err)
	_, err = options.LoadProject(context.Background())
	require.ErrorContains(t, err, "LETHE_DB_PASSWORD")
}

func TestImageRunsWithoutPrivileges(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../Dockerfile")
	require.NoError(t, err)
	text := string(b)
	final := text[strings.LastIndex(text, "\nFROM "):]
	require.Contains(t, final, "FROM scratch")
	require.Contains(t, final, "USER 65532:65532")
	require.Contains(t, text, "CGO_ENABLED=0")
}
