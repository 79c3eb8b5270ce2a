package logfiles_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/mask"
	"github.com/lethe-gdpr/lethe/retention"
)

var midnight = time.Date(2026, 1, 15, 0, 0, 0, 0, time.UTC)

func byAge() connectors.Rule {
	return connectors.Rule{Rule: retention.Rule{
		Name: "web.requests.short", Action: retention.Delete, Start: retention.StartingPoint{Kind: retention.StartObject},
	}}
}

func byEvent() connectors.Rule {
	r := byAge()
	r.Start = retention.StartingPoint{Kind: retention.StartEvent, Null: retention.NullKeep}
	return r
}

func due(t *testing.T, c connectors.Connector, r connectors.Rule, held connectors.Holds) connectors.Due {
	t.Helper()
	q := connectors.DueQuery{Entity: "requests", Rule: r, Held: held, Cuts: []connectors.Cut{{Before: midnight, Zone: time.UTC}}}
	out, err := c.(connectors.Sweeper).Due(context.Background(), q)
	require.NoError(t, err)
	require.Len(t, out, 1)
	out[0].Bytes = 0
	return out[0]
}

func sweep(t *testing.T, c connectors.Connector, r connectors.Rule, held connectors.Holds) map[string]int64 {
	t.Helper()
	j := connectortest.NewJournal()
	job := connectors.SweepJob{
		Entity: "requests", Rule: r, Held: held, Cut: connectors.Cut{Before: midnight, Zone: time.UTC}, Journal: j,
		Deadline: time.Unix(1, 0), // every slice is over at once
	}
	for range 100 {
		_, err := c.(connectors.Sweeper).Sweep(context.Background(), job)
		if err == nil {
			return counts(j.Tallies())
		}
		require.ErrorIs(t, err, connectors.ErrYield)
	}
	t.Fatal("the sweep yields for ever")
	return nil
}

// A rule by the age of files: whole files, one row each, without being read.
func TestSweepWholeFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, at := range map[string]time.Time{
		"app.log": midnight.AddDate(0, 0, -9), "app.log.1": midnight, "app.log.2.gz": midnight.Add(-time.Nanosecond),
		"app.log.3": midnight.AddDate(0, 0, -5), "app.log.4": midnight.AddDate(0, 0, -6),
	} {
		content := line("bob", 1)
		if name == "app.log.4" {
			content += line("ann", 2)
		}
		write(t, root, name, pack(t, filepath.Ext(name), content))
		old(t, root, name, at)
	}
	c := open(t, root, system(requests()), connectors.Options{})
	held := connectors.Holds{Subjects: connectors.Batch{user("h", "ann")}}
	require.Equal(t, connectors.Due{Rows: 4, Held: 1, Blocked: 1, BlockedBy: []string{"requests"}, Total: 5}, due(t, c, byAge(), held))
	require.Equal(t, map[string]int64{
		" requests delete": 2, " requests held": 1, " requests blocked": 1,
	}, sweep(t, c, byAge(), held))
	require.Equal(t, []string{"app.log", "app.log.1", "app.log.4"}, sorted(contents(t, root)))
	write(t, root, "app.log.4", "where nothing is held, nothing is read")
	old(t, root, "app.log.4", midnight.AddDate(0, 0, -6))
	require.Equal(t, map[string]int64{" requests delete": 1, " requests blocked": 1}, sweep(t, c, byAge(), connectors.Holds{}))
	require.Equal(t, []string{"app.log", "app.log.1"}, sorted(contents(t, root)))
}

// A rule by the events' time: lines, and the file with its last one.
func TestSweepLines(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	early, late := line("bob", 3), line("bob", 20)
	undated := `{"user":"bob"}` + "\n"
	write(t, root, "app.log", early+late)
	write(t, root, "app.log.1", early+late+undated)
	write(t, root, "app.log.2.gz", pack(t, ".gz", line("bob", 1)+line("cyn", 2)))
	write(t, root, "app.log.3", line("ann", 4)+early)
	c := open(t, root, system(requests()), connectors.Options{})
	held := connectors.Holds{Subjects: connectors.Batch{user("h", "ann")}}
	require.Equal(t, connectors.Due{Rows: 6, Held: 1, Blocked: 1, BlockedBy: []string{"requests"}, Total: 9}, due(t, c, byEvent(), held))
	require.Equal(t, map[string]int64{
		" requests delete": 4, " requests held": 1, " requests blocked": 1,
	}, sweep(t, c, byEvent(), held))
	require.Equal(t, map[string][]byte{
		"app.log": []byte(early + late), "app.log.1": []byte(late + undated), "app.log.3": []byte(line("ann", 4)),
	}, contents(t, root))
	require.Equal(t, connectors.Due{Rows: 2, Held: 1, Blocked: 1, BlockedBy: []string{"requests"}, Total: 5}, due(t, c, byEvent(), held))

	masks := byEvent()
	masks.Action, masks.Masks = retention.Pseudonymise, map[string]mask.Spec{"user": {Kind: mask.Constant, Value: "-"}}
	require.Equal(t, map[string]int64{" requests mask": 1, " requests blocked": 1}, sweep(t, c, masks, connectors.Holds{}))
	require.Equal(t, line("-", 4), read(t, root, "app.log.3"))
	require.Equal(t, map[string]int64{" requests blocked": 1}, sweep(t, c, masks, connectors.Holds{}), "twice is once")
}

// A Sweep that is told to stop does so before the next file.
func TestSweepStops(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root, "app.log.1", line("bob", 1))
	write(t, root, "app.log.2", line("bob", 1))
	c := open(t, root, system(requests()), connectors.Options{})
	asked := 0
	job := connectors.SweepJob{
		Entity: "requests", Rule: byEvent(), Cut: connectors.Cut{Before: midnight, Zone: time.UTC}, Journal: connectortest.NewJournal(),
		Pace: connectors.Pace{Stop: func() bool { asked++; return asked > 1 }},
	}
	_, err := c.(connectors.Sweeper).Sweep(context.Background(), job)
	require.ErrorIs(t, err, connectors.ErrYield)
	require.Equal(t, []string{"app.log.2"}, sorted(contents(t, root)))
}

// Maps that files cannot follow are refused when they are opened.
func TestRefusedMaps(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(e *connectors.Entity){
		"expire":           func(e *connectors.Entity) { e.Erase = dsr.Expire },
		"a rule expires":   func(e *connectors.Entity) { r := byAge(); r.Action = retention.Expire; e.Rules = []connectors.Rule{r} },
		"no time":          func(e *connectors.Entity) { delete(e.Settings, "time"); e.Rules = []connectors.Rule{byEvent()} },
		"whole files mask": func(e *connectors.Entity) { e.Settings["files"] = "{user}.log"; e.Erase = dsr.Mask },
		"no format":        func(e *connectors.Entity) { delete(e.Settings, "format") },
		"a bad pattern":    func(e *connectors.Entity) { e.Settings["files"] = "../app.log" },
		"two readings":     func(e *connectors.Entity) { e.Settings = map[string]any{"files": "{user}-*"}; e.Erase = dsr.Delete },
		"a bad live":       func(e *connectors.Entity) { e.Settings["live"] = "/app.log" },
		"a bad rotates":    func(e *connectors.Entity) { e.Settings["rotates"] = "now and then" },
		"records unread": func(e *connectors.Entity) {
			e.Settings = map[string]any{"files": "{user}.log"}
			e.Rules = []connectors.Rule{byEvent()}
		},
		"no relative roots": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, root := requests(), "/var/log"
			if change == nil {
				root = "var/log"
			} else {
				change(&e)
			}
			s := system(e)
			s.Settings = map[string]any{"root": root}
			_, err := kind().Open(context.Background(), s, connectors.Options{})
			require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeInvalid})
		})
	}
}
