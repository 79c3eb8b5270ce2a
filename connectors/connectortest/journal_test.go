package connectortest_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
)

func TestJournalKeepsWhatWasSaved(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	j := connectortest.NewJournal()
	at, err := j.Load(ctx)
	require.NoError(t, err)
	require.Nil(t, at, "the first slice has no checkpoint")
	tally := connectors.Tally{Subject: "s", Entity: "e", Method: dsr.Delete, Rows: 2}
	require.NoError(t, j.Save(ctx, []byte("1"), []connectors.Tally{tally}))
	j.OnSave(func(int) error { return connectortest.ErrJournal }, nil)
	require.ErrorIs(t, j.Save(ctx, []byte("2"), []connectors.Tally{tally}), connectortest.ErrJournal)
	j.Heal()
	at, err = j.Load(ctx)
	require.NoError(t, err)
	require.Equal(t, "1", string(at))
	require.Len(t, j.Tallies(), 1)

	j.OnSave(nil, func(int) error { return connectortest.ErrJournal })
	require.ErrorIs(t, j.Save(ctx, []byte("3"), nil), connectortest.ErrJournal)
	j.Heal()
	at, err = j.Load(ctx)
	require.NoError(t, err)
	require.Equal(t, "3", string(at), "only the answer was lost")

	j.Fence()
	require.ErrorIs(t, j.Save(ctx, []byte("4"), nil), connectors.ErrFenced)
	_, err = j.Load(ctx)
	require.ErrorIs(t, err, connectors.ErrFenced)
	require.ErrorIs(t, j.Spool(ctx, "s", "e", []connectors.Key{"k"}), connectors.ErrFenced)
}

func TestJournalSpoolsOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	j := connectortest.NewJournal()
	require.NoError(t, j.Spool(ctx, "s", "e", []connectors.Key{"1", "2"}))
	require.NoError(t, j.Spool(ctx, "s", "e", []connectors.Key{"2", "3"}))
	require.NoError(t, j.Spool(ctx, "s", "other", []connectors.Key{"1"}))
	var got []connectors.Key
	require.NoError(t, j.Each(ctx, "e", func(subject string, keys []connectors.Key) error {
		require.Equal(t, "s", subject)
		got = append(got, keys...)
		return nil
	}))
	require.Equal(t, []connectors.Key{"1", "2", "3"}, got)
}

func TestFailAtCancelsAtTheStep(t *testing.T) {
	t.Parallel()
	j := connectortest.NewJournal()
	ctx := j.FailAt(context.Background(), "b", 2)
	for _, step := range []string{"a", "b", "a"} {
		j.Step(step)
		require.NoError(t, ctx.Err())
	}
	j.Step("b")
	require.ErrorIs(t, ctx.Err(), context.Canceled)
	require.Equal(t, []string{"a", "b", "a", "b"}, j.Steps())
}

func TestSinksTakeBackWhatNoSaveCovered(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	j := connectortest.NewJournal()
	s := connectortest.NewSinks(j)
	sink, err := s.For("s")
	require.NoError(t, err)
	require.NoError(t, sink.Record("e", []string{"id"}, []any{1}))
	require.NoError(t, j.Save(ctx, []byte("x"), nil))
	require.NoError(t, sink.Record("e", []string{"id"}, []any{2}))
	s.Rewind()
	require.Len(t, s.Records("s"), 1)
	require.Error(t, sink.Record("e", []string{"other"}, []any{2}), "names must not change")
	require.Error(t, sink.Record("e", []string{"id"}, nil), "as many values as names")
	s.FailAt(1)
	require.ErrorIs(t, sink.Record("e", []string{"id"}, []any{3}), connectortest.ErrSink)
}
