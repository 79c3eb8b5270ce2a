package store_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/internal/ledger"
	"github.com/lethe-gdpr/lethe/internal/store"
)

// BenchmarkAccept stores what the intake of one request stores, from eight callers at once.
func BenchmarkAccept(b *testing.B) {
	for name, fresh := range map[string]func(testing.TB) string{"postgres": dbtest.Postgres, "sqlite": dbtest.SQLite} {
		b.Run(name, func(b *testing.B) {
			s, err := store.Open(b.Context(), fresh(b), store.Options{MaxConns: 8})
			require.NoError(b, err)
			defer s.Close()
			require.NoError(b, s.Migrate(b.Context()))
			now := time.Now()
			var n atomic.Int64
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.InTx(b.Context(), func(tx engine.Tx) error { return accept(tx, n.Add(1), now) }); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
		})
	}
}

func accept(tx engine.Tx, n int64, now time.Time) error {
	r := &dsr.Request{
		ID: fmt.Sprintf("req_%012d", n), Kind: dsr.Erasure, State: dsr.Discovering, FiledBy: "prn_portal",
		Subject: fmt.Sprintf("c%d", n), MapVersion: 1, Round: 1, CreatedAt: now, UpdatedAt: now,
		Clock: dsr.Clock{Received: now, DueUnpaused: now, Due: now},
	}
	if _, err := tx.OpenRequests(r.Kind, "", []string{r.Subject}); err != nil {
		return err
	}
	return errors.Join(
		tx.InsertRequest(r),
		tx.AddIdentifiers(engine.SealedIdentifier{
			Request: r.ID, Name: "email", Origin: dsr.Known, Ciphertext: make([]byte, 60), KeyID: "k1", Commitment: r.Subject,
		}),
		tx.PutDataKey(r.ID, make([]byte, 80)),
		tx.InsertTasks(&dsr.Task{
			ID: "tsk_" + r.ID, Request: r.ID, System: "shop", Phase: dsr.PhaseLocate, State: dsr.TaskPending,
		}),
		tx.AddEvents(dsr.Event{Request: r.ID, At: now, Actor: "prn_portal", Type: "filed", To: dsr.Discovering}),
		tx.AppendLeaves(ledger.Leaf{At: now, Type: "filed", Request: r.ID, Actor: "prn_portal"}),
		tx.Enqueue(engine.Gather{System: "shop", Phase: dsr.PhaseLocate}, time.Time{}),
	)
}
