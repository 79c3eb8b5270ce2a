package accesspackage_test

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAMillionRecordsInBoundedMemory runs before the parallel tests of the package go on, so the heap is its own.
func TestAMillionRecordsInBoundedMemory(t *testing.T) { //nolint:paralleltest // it measures the heap
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	b := setup(t)
	peak := watch(t)
	p := b.part(t, "shop")
	names := []string{"id", "customer_id", "email", "note", "created_at"}
	at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	const records = 1_000_000
	for i := range records {
		values := []any{int64(i), int64(42), "anna@example.com", "a note of some length, as people write them", at}
		require.NoError(t, p.Record("orders", names, values))
	}
	_, err := p.Mark()
	require.NoError(t, err)
	require.NoError(t, p.Close())
	pkg, err := b.store.Assemble(t.Context(), b.spec)
	require.NoError(t, err)
	require.EqualValues(t, records, pkg.Records)
	require.Less(t, peak(), uint64(64<<20))
}

// watch samples the heap; the function it returns stops it and gives the peak above the start, in bytes.
func watch(t *testing.T) func() uint64 {
	t.Helper()
	read := func() uint64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	runtime.GC()
	start := read()
	stop, done := make(chan struct{}), make(chan uint64)
	go func() {
		most := start
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				most = max(most, read())
			case <-stop:
				done <- most
				return
			}
		}
	}()
	return func() uint64 {
		close(stop)
		return <-done - start
	}
}
