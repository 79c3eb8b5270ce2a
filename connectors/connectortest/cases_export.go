package connectortest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// lines are a subject's records as they are compared: in order, with every value.
func (w *world) lines(records []Record) []string {
	var out []string
	for _, r := range records {
		line := r.Entity + " " + w.recordKey(r)
		for _, c := range w.data.Table(w.sys.Entity(r.Entity).From()).Columns {
			line += fmt.Sprintf(" %s=%s", c.Name, canonical(c.Class, r.Values[c.Name]))
		}
		out = append(out, line)
	}
	return out
}

// records are what a subject got, as the rows that they were loaded from.
func (w *world) records(s *Sinks, ref string) []Record {
	out := s.Records(ref)
	for i := range out {
		if w.Exported != nil {
			out[i].Values = w.Exported(out[i])
		}
	}
	return out
}

// exported compares what a subject got with what an export must show: all that an erasure would touch, rows of others that
// only mention the subject in free text among it, with other people's fields masked as the map says.
func (w *world) exported(t *testing.T, s connectors.Subject, records []Record) {
	t.Helper()
	want := shown(w.sys, w.data, s)
	got := map[string]bool{}
	for _, r := range records {
		at := r.Entity + " " + w.recordKey(r)
		require.False(t, got[at], "%s is written twice", at)
		got[at] = true
		f, ok := want[at]
		require.True(t, ok, "%s is not the subject's", at)
		for _, c := range f.t.Columns {
			v, has := r.Values[c.Name]
			require.True(t, has || w.Flat && f.row[c.Name] == null, "%s lacks %s", at, c.Name)
			if _, masked := f.e.ExportMask[c.Name]; !masked {
				require.Equal(t, f.row[c.Name], canonical(c.Class, v), "%s.%s", at, c.Name)
			}
		}
	}
	for at := range want {
		require.True(t, got[at], "%s is missing", at)
	}
}

func testExport(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna), subject("b", bert), subject("c", cleo), subject("d", dora), subject("e", evan)})
	j := NewJournal()
	s := NewSinks(j)
	require.NoError(t, exporter(t, c).Export(context.Background(), connectors.Job{Batch: batch, Journal: j}, s.For))
	want := map[string]int64{}
	for _, one := range batch {
		w.exported(t, one, w.records(s, one.Ref))
		for _, r := range w.records(s, one.Ref) {
			want[r.Entity+" "+string(dsr.Export)]++
		}
	}
	require.Empty(t, cmp.Diff(want, tallied(j.Tallies())))
	require.Empty(t, w.records(s, "e"))
	require.Empty(t, diff(w.data.rows(), w.data.rows(), w.dump(t)), "Export must not change anything")

	for i := range batch { // alone, and in the same order
		alone := export(t, c, batch[i:i+1])
		require.Equal(t, w.lines(w.records(s, batch[i].Ref)), w.lines(w.records(alone, batch[i].Ref)))
	}

	batch[0].Entities = map[string]bool{"orders": true}
	for _, r := range w.records(export(t, c, batch[:1]), "a") {
		require.Equal(t, "orders", r.Entity, "the request covers orders only")
	}
}

// testExportSaysWhere: every exported record says where it stands, for whoever gets it and for who answers for it.
func testExportSaysWhere(t *testing.T, b Backend) {
	w := setupSample(t, b)
	c := w.open(t)
	batch := discover(t, c, connectors.Batch{subject("a", anna), subject("b", bert)})
	s := export(t, c, batch)
	for _, one := range batch {
		raw, rows := s.Records(one.Ref), w.records(s, one.Ref)
		require.NotEmpty(t, raw)
		for i, r := range raw {
			got := map[string]string{}
			for name, v := range r.Values {
				if strings.HasPrefix(name, "from_") {
					got[name] = fmt.Sprint(v)
				}
			}
			table := w.sys.Entity(r.Entity).From()
			require.Empty(t, cmp.Diff(b.Stands(t, table, rows[i].Values), got), "%s of %s", r.Entity, one.Ref)
		}
	}
}

// testInterruptedExport: whatever interrupts, the resumed export repeats nothing and lacks nothing.
func testInterruptedExport(t *testing.T, b Backend) {
	w := setupCrowd(t, b, 10, 15)
	w.chunk = 3
	c := w.open(t)
	e := exporter(t, c)
	batch := discover(t, c, connectors.Batch{subject("a", anna), subject("d", dora)})
	whole := NewJournal()
	want := NewSinks(whole)
	require.NoError(t, e.Export(context.Background(), connectors.Job{Batch: batch, Journal: whole}, want.For))

	finish := func(label string, j *Journal, s *Sinks, deadline time.Time) {
		c := w.open(t)
		var made progress
		for i := 0; ; i++ {
			require.Less(t, i, maxSlices, "%s: Export yields for ever", label)
			s.Rewind()
			err := exporter(t, c).Export(context.Background(), connectors.Job{Batch: batch, Journal: j, Deadline: deadline}, s.For)
			if err == nil {
				break
			}
			require.ErrorIs(t, err, connectors.ErrYield, label)
			made.check(t, j)
		}
		for _, one := range batch {
			require.Equal(t, w.lines(w.records(want, one.Ref)), w.lines(w.records(s, one.Ref)), label)
		}
		require.Empty(t, cmp.Diff(tallied(whole.Tallies()), tallied(j.Tallies())), label)
		require.NoError(t, c.Close())
	}
	for n := 1; n <= whole.Saves(); n += max(1, whole.Saves()/8) {
		for _, durable := range []bool{false, true} {
			j := NewJournal()
			s := NewSinks(j)
			fail := func(i int) error {
				if i == n {
					return ErrJournal
				}
				return nil
			}
			if durable {
				j.OnSave(nil, fail)
			} else {
				j.OnSave(fail, nil)
			}
			require.ErrorIs(t, e.Export(context.Background(), connectors.Job{Batch: batch, Journal: j}, s.For), ErrJournal)
			j.Heal()
			finish(fmt.Sprintf("save %d, durable %t", n, durable), j, s, time.Time{})
		}
	}
	for n := 1; n <= len(whole.Steps()); n += max(1, len(whole.Steps())/8) {
		j := NewJournal()
		s := NewSinks(j)
		ctx, cancel := context.WithCancel(context.Background())
		j.AtStep(func(i int, _ string) {
			if i == n {
				cancel()
			}
		})
		_ = e.Export(ctx, connectors.Job{Batch: batch, Journal: j}, s.For)
		cancel()
		j.Heal()
		finish(fmt.Sprintf("step %d", n), j, s, time.Time{})
	}
	j := NewJournal()
	finish("slices", j, NewSinks(j), time.Now().Add(-time.Second))
}

// testSinkFails: a full disk ends the call with its error, and the export finishes when there is room again.
func testSinkFails(t *testing.T, b Backend) {
	w := setupSample(t, b)
	w.chunk = 3
	c := w.open(t)
	e := exporter(t, c)
	batch := discover(t, c, connectors.Batch{subject("a", anna)})
	want := export(t, c, batch)
	for n := 1; n <= want.Count(); n += 2 {
		j := NewJournal()
		s := NewSinks(j)
		s.FailAt(n)
		err := e.Export(context.Background(), connectors.Job{Batch: batch, Journal: j}, s.For)
		require.ErrorIs(t, err, ErrSink)
		require.False(t, connectors.IsPermanent(err))
		s.FailAt(0)
		s.Rewind()
		require.NoError(t, e.Export(context.Background(), connectors.Job{Batch: batch, Journal: j}, s.For))
		require.Equal(t, w.lines(w.records(want, "a")), w.lines(w.records(s, "a")))
	}
}
