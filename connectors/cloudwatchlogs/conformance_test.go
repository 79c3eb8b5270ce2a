package cloudwatchlogs_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	cwl "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/cloudwatchlogs"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/cloudwatchserver"
)

// service is CloudWatch Logs, as this project's server or Amazon's.
type service struct {
	client   *cwl.Client
	settings map[string]any
	page     func(n int) // the most that a page has, where that can be set
}

// onEach runs a test on the server of this project, and on Amazon's when LETHE_TEST_CLOUDWATCH_REGION names a region and
// the environment has credentials. There it makes log groups below /lethe-test/ and deletes them.
func onEach(t *testing.T, run func(t *testing.T, fresh func(t *testing.T) service)) {
	t.Parallel()
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T) service {
			s := cloudwatchserver.New(time.Now)
			h := httptest.NewServer(s)
			t.Cleanup(h.Close)
			return service{
				client: cwl.New(cwl.Options{
					Region: "eu-north-1", BaseEndpoint: &h.URL,
					Credentials: credentials.NewStaticCredentialsProvider("AKEXAMPLE", "not a secret", ""),
				}),
				settings: map[string]any{
					"region": "eu-north-1", "endpoint": h.URL, "access_key": "AKEXAMPLE", "secret_key": "not a secret",
				},
				page: func(n int) { s.Page = n },
			}
		})
	})
	region := os.Getenv("LETHE_TEST_CLOUDWATCH_REGION")
	if region == "" {
		return
	}
	t.Run("aws", func(t *testing.T) {
		t.Parallel()
		config, err := awsconfig.LoadDefaultConfig(context.Background(), awsconfig.WithRegion(region))
		require.NoError(t, err)
		run(t, func(*testing.T) service {
			return service{client: cwl.NewFromConfig(config), settings: map[string]any{"region": region}, page: func(int) {}}
		})
	})
}

func TestConformance(t *testing.T) {
	onEach(t, func(t *testing.T, fresh func(t *testing.T) service) {
		connectortest.Run(t, func(t *testing.T) connectortest.Backend {
			g := &groups{service: fresh(t)}
			return g.backend(t)
		})
	})
}

// Streams are found, exported, deleted, and found when they come back.
func TestStreams(t *testing.T) {
	onEach(t, func(t *testing.T, fresh func(t *testing.T) service) {
		s, ctx := fresh(t), context.Background()
		s.page(2)
		group := aws.String(fmt.Sprintf("/lethe-test/%x/sessions", rand.Uint64()))
		_, err := s.client.CreateLogGroup(ctx, &cwl.CreateLogGroupInput{LogGroupName: group})
		require.NoError(t, err)
		t.Cleanup(func() {
			_, err := s.client.DeleteLogGroup(ctx, &cwl.DeleteLogGroupInput{LogGroupName: group})
			require.NoError(t, err)
		})
		put := func(names ...string) {
			for _, name := range names {
				_, err := s.client.CreateLogStream(ctx, &cwl.CreateLogStreamInput{LogGroupName: group, LogStreamName: &name})
				require.NoError(t, err)
				_, err = s.client.PutLogEvents(ctx, &cwl.PutLogEventsInput{
					LogGroupName: group, LogStreamName: &name,
					LogEvents: []types.InputLogEvent{{Timestamp: aws.Int64(time.Now().UnixMilli()), Message: aws.String("hello")}},
				})
				require.NoError(t, err)
			}
		}
		put("user/42/a", "user/42/b", "user/42/c", "user/421/a", "user/42")
		sys := &connectors.System{
			Name: "logs", Settings: s.settings, Identifiers: map[string]dsr.IdentifierKind{"user_id": dsr.KindOpaque},
			Entities: []connectors.Entity{{
				Name: "sessions", Erase: dsr.Delete, Settings: map[string]any{"group": *group, "streams": "user/{user_id}/*"},
			}},
		}
		l, err := cloudwatchlogs.Open(ctx, sys, connectors.Options{})
		require.NoError(t, err)
		defer l.Close()
		b := batch("42")
		require.Eventually(t, func() bool {
			return count(t, l, connectors.Query{Batch: b})["task-42 sessions delete"] == 3
		}, time.Minute, 10*time.Millisecond)
		require.Eventually(t, func() bool {
			j := connectortest.NewJournal()
			sinks := connectortest.NewSinks(j)
			require.NoError(t, l.Export(ctx, connectors.Job{Batch: b, Journal: j}, sinks.For))
			return len(sinks.Records("task-42")) == 3
		}, time.Minute, 10*time.Millisecond, "events are shown some time after they were put")
		require.Equal(t, map[string]int64{"task-42 sessions delete": 3}, sums(erase(t, l, b, connectors.Holds{}).Tallies()))
		require.Empty(t, verify(t, l, b, connectors.Holds{}))
		put("user/42/a")
		require.Len(t, verify(t, l, b, connectors.Holds{}), 1)
		require.Equal(t, map[string]int64{"task-421 sessions delete": 1}, count(t, l, connectors.Query{Batch: batch("421")}))
	})
}

// groups is a flat store: a table is a log group, a row an event of JSON. It knows the service only by its API.
type groups struct {
	service
	root string
	data connectortest.Dataset
	rows map[string][]connectortest.Row // as they were put: the service cannot replace one
	cut  string                         // an event that is no row
}

func (g *groups) backend(t *testing.T) connectortest.Backend {
	g.root = fmt.Sprintf("/lethe-test/%x/", rand.Uint64())
	t.Cleanup(func() {
		for table := range g.rows {
			g.drop(t, table)
		}
	})
	return connectortest.Backend{
		Flat: true, Expires: true, Interruptions: 20,
		Open: g.open, Load: g.load, Dump: g.dump, Put: g.put, Damage: g.damage,
		Exported: func(r connectortest.Record) connectortest.Row {
			row, err := connectortest.ParseLine(g.data.Table(r.Entity), r.Values["record"].(json.RawMessage))
			require.NoError(t, err)
			return row
		},
		Stands: g.stands,
	}
}

func (g *groups) stands(t *testing.T, table string, r connectortest.Row) map[string]string {
	t.Helper()
	name, want := g.root+table, string(connectortest.Line(g.data.Table(table), r))
	out, err := g.client.FilterLogEvents(context.Background(), &cwl.FilterLogEventsInput{LogGroupName: &name})
	require.NoError(t, err)
	for _, e := range out.Events {
		if *e.Message == want {
			return map[string]string{
				"from_group": name, "from_stream": *e.LogStreamName, "from_event": *e.EventId,
				"from_time": time.UnixMilli(*e.Timestamp).UTC().Format(time.RFC3339Nano),
			}
		}
	}
	require.Fail(t, "an event that is not there was exported")
	return nil
}

func (g *groups) open(t *testing.T, sys *connectors.System, o connectors.Options, chunk int) connectors.Connector {
	t.Helper()
	sys.Connector, sys.Settings = "cloudwatchlogs", g.settings
	for i := range sys.Entities {
		sys.Entities[i].Settings = map[string]any{"group": g.root + sys.Entities[i].Name, "format": "jsonl"}
	}
	g.page(chunk)
	l, err := cloudwatchlogs.Open(context.Background(), sys, o)
	require.NoError(t, err)
	return l
}

func (g *groups) load(t *testing.T, d connectortest.Dataset) {
	t.Helper()
	for table := range g.rows {
		g.drop(t, table)
	}
	g.data, g.rows, g.cut = d, map[string][]connectortest.Row{}, ""
	for i := range d.Tables {
		g.fill(t, d.Tables[i].Name, d.Tables[i].Rows)
	}
}

func (g *groups) drop(t *testing.T, table string) {
	t.Helper()
	name := g.root + table
	_, err := g.client.DeleteLogGroup(context.Background(), &cwl.DeleteLogGroupInput{LogGroupName: &name})
	require.NoError(t, err)
}

// fill makes a group of rows, and waits until the service shows them all.
func (g *groups) fill(t *testing.T, table string, rows []connectortest.Row) {
	t.Helper()
	ctx, name, stream := context.Background(), aws.String(g.root+table), aws.String("stream")
	_, err := g.client.CreateLogGroup(ctx, &cwl.CreateLogGroupInput{LogGroupName: name})
	require.NoError(t, err)
	_, err = g.client.PutRetentionPolicy(ctx, &cwl.PutRetentionPolicyInput{LogGroupName: name, RetentionInDays: aws.Int32(1)})
	require.NoError(t, err)
	_, err = g.client.CreateLogStream(ctx, &cwl.CreateLogStreamInput{LogGroupName: name, LogStreamName: stream})
	require.NoError(t, err)
	g.rows[table] = rows
	var events []types.InputLogEvent
	for _, r := range rows {
		events = append(events, types.InputLogEvent{
			Timestamp: aws.Int64(time.Now().UnixMilli()), Message: aws.String(string(connectortest.Line(g.data.Table(table), r))),
		})
	}
	slices.SortStableFunc(events, func(a, b types.InputLogEvent) int { return cmp.Compare(*a.Timestamp, *b.Timestamp) })
	if len(events) > 0 {
		_, err = g.client.PutLogEvents(ctx, &cwl.PutLogEventsInput{LogGroupName: name, LogStreamName: stream, LogEvents: events})
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return len(g.read(t, table)) == len(rows) }, time.Minute, 10*time.Millisecond)
}

func (g *groups) put(t *testing.T, table string, r connectortest.Row) {
	t.Helper()
	same := func(o connectortest.Row) bool {
		return !slices.ContainsFunc(g.data.Table(table).PrimaryKey, func(c string) bool { return fmt.Sprint(o[c]) != fmt.Sprint(r[c]) })
	}
	rows := append(slices.DeleteFunc(slices.Clone(g.rows[table]), same), r)
	g.drop(t, table)
	g.fill(t, table, rows)
}

func (g *groups) dump(t *testing.T) map[string][]connectortest.Row {
	t.Helper()
	out := map[string][]connectortest.Row{}
	for _, table := range slices.Sorted(maps.Keys(g.rows)) {
		for _, line := range g.read(t, table) {
			if line == g.cut {
				continue
			}
			row, err := connectortest.ParseLine(g.data.Table(table), []byte(line))
			require.NoError(t, err)
			out[table] = append(out[table], row)
		}
	}
	return out
}

// damage puts an event that ends in the middle of the row.
func (g *groups) damage(t *testing.T, table string, r connectortest.Row) func(*testing.T) bool {
	t.Helper()
	line := string(connectortest.Line(g.data.Table(table), r))
	g.cut = line[:len(line)-2]
	_, err := g.client.PutLogEvents(context.Background(), &cwl.PutLogEventsInput{
		LogGroupName: aws.String(g.root + table), LogStreamName: aws.String("stream"),
		LogEvents: []types.InputLogEvent{{Timestamp: aws.Int64(time.Now().UnixMilli()), Message: &g.cut}},
	})
	require.NoError(t, err)
	intact := func(t *testing.T) bool {
		t.Helper()
		return slices.Contains(g.read(t, table), g.cut)
	}
	require.Eventually(t, func() bool { return intact(t) }, time.Minute, 10*time.Millisecond)
	return intact
}

func (g *groups) read(t *testing.T, table string) []string {
	t.Helper()
	name := g.root + table
	var out []string
	for pages := cwl.NewFilterLogEventsPaginator(g.client, &cwl.FilterLogEventsInput{LogGroupName: &name}); pages.HasMorePages(); {
		page, err := pages.NextPage(context.Background())
		var missing *types.ResourceNotFoundException
		if errors.As(err, &missing) {
			return nil
		}
		require.NoError(t, err)
		for _, e := range page.Events {
			out = append(out, *e.Message)
		}
	}
	return out
}
