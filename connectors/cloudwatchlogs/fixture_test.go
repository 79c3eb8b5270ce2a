package cloudwatchlogs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/cloudwatchlogs"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/cloudwatchserver"
)

const (
	anna  = "anna.canary@example.com"
	bert  = "bert@example.com"
	group = "/shop/web"
	users = "/shop/sessions"
	day   = 24 * time.Hour
)

// clock is the one of the server and of the connector.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// world is a server with a group of events, /shop/web, and one of streams that belong to one person each,
// /shop/sessions.
type world struct {
	*cloudwatchserver.Server
	*clock
	sys *connectors.System
}

var start = time.Date(2026, time.March, 2, 8, 0, 0, 0, time.UTC)

// tester is a *testing.T or a *rapid.T.
type tester interface {
	require.TestingT
	Helper()
	Cleanup(func())
}

func setup(t tester) *world {
	t.Helper()
	c := &clock{at: start}
	s := cloudwatchserver.New(c.now)
	s.AccessKey, s.Secret = "AKEXAMPLE", "not a secret"
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	w := &world{Server: s, clock: c, sys: &connectors.System{
		Name: "logs", Connector: "cloudwatchlogs",
		Identifiers: map[string]dsr.IdentifierKind{"email": dsr.KindEmail, "user_id": dsr.KindOpaque},
		Settings: map[string]any{
			"region": "eu-north-1", "endpoint": h.URL, "access_key": "AKEXAMPLE", "secret_key": "not a secret",
		},
		Entities: []connectors.Entity{
			{
				Name: "events", Erase: dsr.Expire, Mentions: []string{"text"}, Settings: map[string]any{"group": group, "format": "jsonl"},
				Fields: []connectors.Field{{Name: "email", Identifier: "email"}, {Name: "user.id", Identifier: "user_id"}},
			},
			{
				Name: "sessions", Erase: dsr.Delete, Placeholders: []string{"user_id"},
				Settings: map[string]any{"group": users, "streams": "user/{user_id}/*"},
			},
		},
	}}
	s.Retain(group, 30)
	s.Retain(users, 30)
	return w
}

// event puts one event of somebody's.
func (w *world) event(at time.Time, user string, fields ...string) {
	doc := map[string]any{"user": map[string]any{"id": user}}
	for i := 0; i+1 < len(fields); i += 2 {
		doc[fields[i]] = fields[i+1]
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	w.Put(group, "web-1", at, string(b))
}

func (w *world) open(t tester) *cloudwatchlogs.Logs {
	t.Helper()
	l, err := cloudwatchlogs.OpenImpatient(context.Background(), w.sys, connectors.Options{Now: w.now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func subject(ref, user string) connectors.Subject {
	return connectors.Subject{Ref: ref, Identifiers: []dsr.Identifier{{Name: "user_id", Value: dsr.NewSecret(user), Origin: dsr.Known}}}
}

func batch(users ...string) connectors.Batch {
	var b connectors.Batch
	for _, u := range users {
		b = append(b, subject("task-"+u, u))
	}
	return b
}

// erase runs an erasure to its end.
func erase(t tester, l *cloudwatchlogs.Logs, b connectors.Batch, held connectors.Holds) *connectortest.Journal {
	t.Helper()
	j := connectortest.NewJournal()
	require.NoError(t, l.Erase(context.Background(), connectors.Job{Batch: b, Held: held, Journal: j}))
	return j
}

func verify(t tester, l *cloudwatchlogs.Logs, b connectors.Batch, held connectors.Holds) []dsr.Residue {
	t.Helper()
	left, err := l.Verify(context.Background(), connectors.Search{Batch: b, Held: held, Keys: connectortest.NewJournal()})
	require.NoError(t, err)
	return left
}

// sums are tallies by subject, entity and method.
func sums(tallies []connectors.Tally) map[string]int64 {
	out := map[string]int64{}
	for _, t := range tallies {
		out[fmt.Sprint(t.Subject, " ", t.Entity, " ", t.Method)] += t.Rows
	}
	return out
}
