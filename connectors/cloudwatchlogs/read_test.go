package cloudwatchlogs_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/cloudwatchlogs"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/datamap/drift"
)

func count(t tester, l *cloudwatchlogs.Logs, q connectors.Query) map[string]int64 {
	t.Helper()
	found, err := l.Locate(context.Background(), q)
	require.NoError(t, err)
	out := map[string]int64{}
	for _, c := range found.Counts {
		out[fmt.Sprint(c.Subject, " ", c.Entity, " ", c.Method)] += c.Rows
	}
	return out
}

// Pages without events, pages of one event and events of one millisecond lose nothing and repeat nothing.
func TestPages(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Page, w.EmptyPages = 1, 3
	for i := range 7 {
		w.event(start, "42", "n", fmt.Sprint(i))
	}
	for i := range 5 {
		w.Put(users, fmt.Sprintf("user/42/%d", i), start, "x")
	}
	want := map[string]int64{"task-42 events expire": 7, "task-42 sessions delete": 5}
	require.Equal(t, want, count(t, w.open(t), connectors.Query{Batch: batch("42", "7")}))
}

// A storm of throttling is waited out; a longer one is a transient fault, and nothing is lost after it.
func TestThrottling(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.event(start, "42")
	w.Put(users, "user/42/a", start, "x")
	l := w.open(t)
	w.Throttle(cloudwatchlogs.Attempts - 1)
	require.Len(t, count(t, l, connectors.Query{Batch: batch("42")}), 2)

	j := connectortest.NewJournal()
	w.Throttle(cloudwatchlogs.Attempts)
	err := l.Erase(context.Background(), connectors.Job{Batch: batch("42"), Journal: j})
	require.Equal(t, dsr.CodeUnavailable, dsr.CodeOf(err))
	require.True(t, connectors.Transient(err))
	require.NoError(t, l.Erase(context.Background(), connectors.Job{Batch: batch("42"), Journal: j}))
	require.Equal(t, map[string]int64{"task-42 events expire": 1, "task-42 sessions delete": 1}, sums(j.Tallies()))
}

// Nobody's identifier is in a request: requests are kept by CloudTrail. The name of a stream that is deleted is the one
// thing that cannot be helped.
func TestRequestsNameNobody(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.event(start, "canary-42", "email", anna)
	w.Put(users, "user/canary-42/a", start, "x")
	l := w.open(t)
	w.Calls()
	b := connectors.Batch{{Ref: "a", Identifiers: []dsr.Identifier{
		{Name: "user_id", Value: dsr.NewSecret("canary-42")}, {Name: "email", Value: dsr.NewSecret(anna)},
	}}}
	erase(t, l, b, connectors.Holds{})
	verify(t, l, b, connectors.Holds{})
	count(t, l, connectors.Query{Batch: b})
	calls := w.Calls()
	require.NotEmpty(t, calls)
	for _, c := range calls {
		if c.Action != "DeleteLogStream" {
			require.NotContains(t, c.Body, "canary", c.Action)
		}
	}
}

// Whose a stream is depends on the value and not on how it is written.
func TestStreamsBySpelling(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sys.Identifiers["device"] = dsr.KindUUID
	e := w.sys.Entity("sessions")
	e.Settings["streams"], e.Teaches, e.Placeholders = "user/{email}/{device}", true, []string{"email", "device"}
	w.Put(users, "user/Anna.Canary@Example.com/6BA7B810-9DAD-11D1-80B4-00C04FD430C8", start, "x")
	w.Put(users, "user/other@example.com/6ba7b8109dad11d180b400c04fd430c8", start, "x")
	w.Put(users, "user/other@example.com/7ba7b8109dad11d180b400c04fd430c8", start, "x")
	w.Put(users, "user/"+anna, start, "not of the pattern")
	l := w.open(t)
	b := connectors.Batch{{Ref: "a", Identifiers: []dsr.Identifier{{Name: "email", Value: dsr.NewSecret(anna)}}}}
	found, err := l.Locate(context.Background(), connectors.Query{Batch: b, Teaching: true})
	require.NoError(t, err)
	require.Len(t, found.Learned, 1)
	require.Equal(t, "device", found.Learned[0].Identifier.Name)
	require.Equal(t, "logs.sessions", found.Learned[0].Identifier.Source)
	b[0].Identifiers = append(b[0].Identifiers, dsr.Identifier{Name: "device", Value: dsr.NewSecret("6ba7b810-9dad-11d1-80b4-00c04fd430c8")})
	erase(t, l, b, connectors.Holds{})
	require.Equal(t, []string{"user/" + anna, "user/other@example.com/7ba7b8109dad11d180b400c04fd430c8"}, w.Streams(users))
}

// Tenants do not meet: a stream of another tenant is not the subject's.
func TestTenants(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sys.TenantName, w.sys.Identifiers["account"] = "account", dsr.KindOpaque
	w.sys.Entities = w.sys.Entities[1:]
	e := w.sys.Entity("sessions")
	e.Tenant, e.Settings["streams"] = "account", "{account}/{user_id}"
	w.Put(users, "acme/42", start, "x")
	w.Put(users, "globex/42", start, "x")
	l := w.open(t)
	b := batch("42")
	_, err := l.Locate(context.Background(), connectors.Query{Batch: b})
	require.True(t, connectors.IsPermanent(err), "without a tenant nothing is searched")
	b[0].Tenant = "acme"
	erase(t, l, b, connectors.Holds{})
	require.Equal(t, []string{"globex/42"}, w.Streams(users))
}

// What masks events for others does not hide them from the search.
func TestMaskedEvents(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.event(start, "1", "email", anna)
	w.Protect(group)
	b := connectors.Batch{{Ref: "a", Identifiers: []dsr.Identifier{{Name: "email", Value: dsr.NewSecret(anna)}}}}
	require.Equal(t, map[string]int64{"a events expire": 1}, count(t, w.open(t), connectors.Query{Batch: b}))
}

// A group of several formats is mapped through a filter; an event that is not of the format is named by its time only.
func TestForeignEvents(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.event(start, "42")
	w.Put(group, "anna", start.Add(time.Second), "START RequestId: canary")
	w.Put(group, "anna", start.Add(2*time.Second), "{\n  \"user\": {\n    \"id\": \"42\"\n  }\n}")
	_, err := w.open(t).Locate(context.Background(), connectors.Query{Batch: batch("42")})
	require.True(t, connectors.IsPermanent(err))
	require.Equal(t, dsr.CodeUnreadable, dsr.CodeOf(err))
	require.Contains(t, err.Error(), "2026-03-02T08:00:01Z")
	require.NotContains(t, err.Error(), "anna")
	require.NotContains(t, err.Error(), "canary")
	w.sys.Entity("events").Settings["filter"] = "{ $.user.id = * }"
	require.Equal(t, map[string]int64{"task-42 events expire": 2}, count(t, w.open(t), connectors.Query{Batch: batch("42")}))
}

// An export gives each subject their events and streams, and starts again where it stopped.
func TestExport(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Page = 2
	for i := range 5 {
		w.event(start.Add(time.Duration(i)*time.Second), "42", "n", fmt.Sprint(i))
		w.event(start.Add(time.Duration(i)*time.Second), "7", "text", "of user 4242424")
		w.Put(users, fmt.Sprintf("user/42/%d", i%3), start.Add(time.Duration(i)*time.Second), fmt.Sprint("line ", i))
		w.Put(users, "user/7/a", start, fmt.Sprint("other ", i))
	}
	l := w.open(t)
	b := append(batch("42"), subject("mentioned", "4242424"))
	j := connectortest.NewJournal()
	sinks := connectortest.NewSinks(j)
	yields := 0
	for {
		err := l.Export(context.Background(), connectors.Job{Batch: b, Journal: j, Deadline: w.now()}, sinks.For)
		if err == nil {
			break
		}
		require.ErrorIs(t, err, connectors.ErrYield)
		if yields++; yields == 3 {
			sinks.FailAt(1)
			require.Error(t, l.Export(context.Background(), connectors.Job{Batch: b, Journal: j}, sinks.For))
			sinks.FailAt(0)
			sinks.Rewind()
			w.move(25 * time.Hour)
		}
	}
	require.Greater(t, yields, 5)
	require.Len(t, sinks.Records("mentioned"), 5, "who is mentioned sees it")
	var got []string
	for _, r := range sinks.Records("task-42") {
		switch r.Entity {
		case "events":
			require.Equal(t, "web-1", r.Values["from_stream"])
			got = append(got, fmt.Sprint(r.Values["from_time"], " ", string(fmt.Appendf(nil, "%s", r.Values["record"]))))
		case "sessions":
			got = append(got, fmt.Sprint(r.Values["from_stream"], " ", r.Values["message"]))
		}
	}
	require.Equal(t, []string{
		`2026-03-02T08:00:00Z {"n":"0","user":{"id":"42"}}`, `2026-03-02T08:00:01Z {"n":"1","user":{"id":"42"}}`,
		`2026-03-02T08:00:02Z {"n":"2","user":{"id":"42"}}`, `2026-03-02T08:00:03Z {"n":"3","user":{"id":"42"}}`,
		`2026-03-02T08:00:04Z {"n":"4","user":{"id":"42"}}`,
		"user/42/0 line 0", "user/42/0 line 3", "user/42/1 line 1", "user/42/1 line 4", "user/42/2 line 2",
	}, got)
	require.Equal(t, map[string]int64{"mentioned events export": 5, "task-42 events export": 5, "task-42 sessions export": 3}, sums(j.Tallies()))
	require.Equal(t, sums(j.Tallies()), count(t, l, connectors.Query{Batch: b, Export: true}))
}

// Errors repeat nothing that was asked.
func TestErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*world)
		code   dsr.Code
	}{
		"no group":   {func(w *world) { w.sys.Entity("events").Settings["group"] = "/shop/other" }, "logs-no-group"},
		"wrong key":  {func(w *world) { w.sys.Settings["access_key"] = "AKOTHER" }, "logs-permission"},
		"wrong sign": {func(w *world) { w.sys.Settings["secret_key"] = "guess" }, "logs-permission"},
		"filter":     {func(w *world) { w.sys.Entity("events").Settings["filter"] = "[a, b" }, "logs-refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			c.change(w)
			_, err := w.open(t).Locate(context.Background(), connectors.Query{Batch: batch("canary-42")})
			require.True(t, connectors.IsPermanent(err), "%v", err)
			require.Equal(t, c.code, dsr.CodeOf(err))
			require.NotContains(t, err.Error(), "canary")
		})
	}
	w := setup(t)
	w.sys.Settings["endpoint"] = "http://127.0.0.1:1"
	_, err := w.open(t).Locate(context.Background(), connectors.Query{Batch: batch("42")})
	require.True(t, connectors.Transient(err))
	require.Equal(t, dsr.CodeUnavailable, dsr.CodeOf(err))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = setup(t).open(t).Locate(ctx, connectors.Query{Batch: batch("42")})
	require.ErrorIs(t, err, context.Canceled)
}

// What CloudWatch Logs cannot do is refused before anything is asked of it.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	events := func(change func(*connectors.Entity)) func(*connectors.System) {
		return func(s *connectors.System) { change(s.Entity("events")) }
	}
	sessions := func(change func(*connectors.Entity)) func(*connectors.System) {
		return func(s *connectors.System) { change(s.Entity("sessions")) }
	}
	for field, change := range map[string]func(*connectors.System){
		"entities.events.erase":     events(func(e *connectors.Entity) { e.Erase = dsr.Delete }),
		"entities.events.mask":      events(func(e *connectors.Entity) { e.Erase = dsr.Mask }),
		"entities.events.group":     events(func(e *connectors.Entity) { e.Settings["group"] = "a group" }),
		"entities.sessions.erase":   sessions(func(e *connectors.Entity) { e.Erase = dsr.Expire }),
		"entities.sessions.streams": sessions(func(e *connectors.Entity) { e.Mentions = []string{"text"} }),
		"access_key":                func(s *connectors.System) { delete(s.Settings, "secret_key") },
		"endpoint":                  func(s *connectors.System) { s.Settings["endpoint"] = "localhost" },
	} {
		w := setup(t)
		change(w.sys)
		_, err := cloudwatchlogs.Open(context.Background(), w.sys, connectors.Options{})
		var de *dsr.Error
		require.ErrorAs(t, err, &de, field)
		require.Equal(t, dsr.CodeInvalid, de.Code, field)
		require.Equal(t, field, de.Field)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	kinds := cloudwatchlogs.Kinds()
	require.Len(t, kinds, 1)
	require.True(t, kinds[0].Flat && kinds[0].Expires)
	parse := map[string]func(string) ([]string, error){}
	for _, s := range kinds[0].EntityKeys {
		parse[s.Name] = s.Parse
	}
	require.NotContains(t, parse, "compression")
	ids, err := parse["streams"]("app/{user_id}/{device}/**")
	require.NoError(t, err)
	require.Equal(t, []string{"user_id", "device"}, ids)
	for _, bad := range []string{"app/*", "{user_id}-*", "{user_id}{device}", "**/{user_id}/**", "a/{user_id", ""} {
		_, err := parse["streams"](bad)
		require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeInvalid}, bad)
	}
	_, err = parse["group"]("arn:aws:logs:eu-north-1:123456789012:log-group:x")
	require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeInvalid})
}

func codes(fs []connectors.Finding) []string {
	var out []string
	for _, f := range fs {
		out = append(out, strings.TrimSpace(fmt.Sprint(f.Severity, " ", f.Code, " ", f.Entity)))
	}
	slices.Sort(out)
	return out
}

func TestCheck(t *testing.T) {
	t.Parallel()
	check := func(w *world) []string {
		found, err := w.open(t).Check(context.Background())
		require.NoError(t, err)
		return codes(found)
	}
	w := setup(t)
	require.Empty(t, check(w))

	w.Ship(group, "to-lake", "arn:aws:firehose:eu-north-1:210987654321:deliverystream/lake")
	w.Retain("/other", 0)
	w.Retain("/ignored", 0)
	w.sys.Ignored = map[string]string{"/ignored": "metrics"}
	w.Protect(group)
	w.Retain(group, 0)
	w.Retain(users, 0)
	w.sys.Entity("events").Settings["filter"] = "GET"
	require.Equal(t, []string{
		"error no-retention events", "warning filtered events", "warning masked-events events",
		"warning no-retention sessions", "warning subscription events", "warning unmapped-groups",
	}, check(w))
	w.event(start, "42")
	w.sys.Entity("events").Settings["filter"] = ""
	found, err := w.open(t).Locate(context.Background(), connectors.Query{Batch: batch("42")})
	require.NoError(t, err)
	require.Equal(t, []dsr.Copy{{
		System: "logs", What: "subscription to-lake of the log group " + group,
		Recipient: "Firehose stream lake of another AWS account",
	}}, found.Copies)

	w = setup(t)
	w.sys.Entity("events").Settings["filter"] = "[a, b"
	require.Equal(t, []string{"error bad-filter events", "warning filtered events"}, check(w))
	w = setup(t)
	w.sys.Settings["secret_key"] = "guess"
	require.Equal(t, []string{"error missing-privilege"}, check(w))

	w = setup(t)
	w.sys.Entity("events").Settings["group"] = "/gone"
	require.Equal(t, []string{"error unknown-group events", "warning unmapped-groups"}, check(w))

	w = setup(t)
	w.Retain(users, 30)
	w.sys.Entity("events").Settings["group"] = users
	require.Contains(t, check(w), "error two-entities sessions", "a stream that is deleted takes others' events along")
	other := *w.sys.Entity("sessions")
	other.Name, other.Settings = "again", map[string]any{"group": users, "streams": "user/{user_id}/app"}
	apart := other
	apart.Name, apart.Settings = "apart", map[string]any{"group": users, "streams": "app/{user_id}"}
	w = setup(t)
	w.sys.Entities = append(w.sys.Entities, other, apart)
	got := check(w)
	require.Contains(t, got, "error two-entities again")
	require.NotContains(t, got, "error two-entities apart")
}

// Mapped groups are described by their entities.
func TestDescribe(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.event(start, "42")
	w.Retain("/ignored", 1)
	w.Retain("/other", 1)
	w.sys.Ignored = map[string]string{"/ignored": "metrics"}
	s, err := w.open(t).Describe(context.Background())
	require.NoError(t, err)
	var names []string
	for _, e := range s.Entities {
		names = append(names, e.Name)
	}
	require.Equal(t, []string{"/ignored", "events", "sessions"}, names)
	require.Positive(t, s.Entities[1].Bytes)
	require.Empty(t, drift.Compare(w.sys, s, nil), "a map that fits has not drifted")
}

func TestGrants(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sys.Entity("events").Rules = []connectors.Rule{expire("P30D", "")}
	text, err := w.open(t).Grants(context.Background(), "arn:aws:iam::123456789012:role/lethe")
	require.NoError(t, err)
	const arn = "arn:aws:logs:eu-north-1:123456789012:log-group:"
	require.JSONEq(t, `{"Version": "2012-10-17", "Statement": [
		{"Sid": "List", "Effect": "Allow", "Action": ["logs:DescribeLogGroups"], "Resource": ["`+arn+`*:*"]},
		{"Sid": "Search", "Effect": "Allow", "Action": ["logs:DescribeSubscriptionFilters", "logs:FilterLogEvents"],
			"Resource": ["`+arn+users+`:*", "`+arn+group+`:*"]},
		{"Sid": "Unmask", "Effect": "Allow", "Action": ["logs:Unmask"], "Resource": ["`+arn+users+`:*", "`+arn+group+`:*"]},
		{"Sid": "ListStreams", "Effect": "Allow", "Action": ["logs:DescribeLogStreams"], "Resource": ["`+arn+users+`:*"]},
		{"Sid": "DeleteStreams", "Effect": "Allow", "Action": ["logs:DeleteLogStream"], "Resource": ["`+arn+users+`:log-stream:user/*"]},
		{"Sid": "SetRetention", "Effect": "Allow", "Action": ["logs:PutRetentionPolicy", "logs:DeleteRetentionPolicy"], "Resource": ["`+arn+group+`:*"]}
	]}`, text)
	text, err = w.open(t).Grants(context.Background(), "lethe")
	require.NoError(t, err)
	require.Contains(t, text, "arn:aws:logs:eu-north-1:*:log-group:"+group+":*")
	_, err = w.open(t).Grants(context.Background(), "")
	require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeInvalid})
}
