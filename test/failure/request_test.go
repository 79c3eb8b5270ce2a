package failure

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

func (h *house) activate(t *testing.T, yaml []byte) int {
	t.Helper()
	version, err := h.engine.ActivateMap(t.Context(), bob, yaml)
	require.NoError(t, err)
	return version
}

func (h *house) file(t *testing.T, kind dsr.Kind, subject int) *dsr.Request {
	t.Helper()
	r, err := h.engine.File(t.Context(), alice, engine.NewRequest{
		Kind: kind, Verified: true, Method: "session", Identifiers: []engine.RawIdentifier{
			{Name: "email", Value: dsr.NewSecret(fmt.Sprintf("subject-%d@example.com", subject))},
		},
	})
	require.NoError(t, err)
	return r
}

func (h *house) get(t *testing.T, id string) *dsr.Request {
	t.Helper()
	r, err := h.engine.Get(t.Context(), bob, id)
	require.NoError(t, err)
	return r
}

// await waits until a Request is in one of the states, and fails when it ends in another or needs attention.
func (h *house) await(t *testing.T, id string, states ...dsr.State) *dsr.Request {
	t.Helper()
	end := time.Now().Add(patience)
	for {
		r, err := h.engine.Get(t.Context(), bob, id)
		for _, s := range states {
			if err == nil && r.State == s {
				return r
			}
		}
		if err == nil && (r.State.Final() || r.State == dsr.NeedsAttention || time.Now().After(end)) {
			h.tell(t, id)
			require.Failf(t, "unexpected state", "%s: %s: %s", r.State, r.Reason, r.Hint)
		}
		require.True(t, time.Now().Before(end), "the control database does not answer: %v", err)
		select {
		case <-t.Context().Done():
			t.FailNow()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (h *house) tell(t *testing.T, id string) {
	t.Helper()
	events, _ := h.engine.Events(t.Context(), bob, id, 0, 100)
	for _, e := range events {
		t.Logf("%s %s %s %v", e.At.Format(time.TimeOnly), e.Type, e.To, e.Detail)
	}
	tasks, _ := h.engine.Tasks(t.Context(), bob, id)
	for _, task := range tasks {
		t.Logf("task %s %s %s run %s not before %s: %s",
			task.System, task.Phase, task.State, task.Run, task.NotBefore, task.Reason)
	}
}

func (h *house) approve(t *testing.T, r *dsr.Request) {
	t.Helper()
	r = h.await(t, r.ID, dsr.AwaitingReview)
	_, err := h.engine.Approve(t.Context(), bob, r.ID, r.Version, r.PlanHash)
	require.NoError(t, err)
}

func (h *house) retry(t *testing.T, id string) {
	t.Helper()
	_, err := h.engine.Retry(t.Context(), bob, id, h.get(t, id).Version)
	require.NoError(t, err)
}

// attention waits until a Request needs a person, and requires that it says why and what to do.
func (h *house) attention(t *testing.T, id, reason string) *dsr.Request {
	t.Helper()
	r := h.await(t, id, dsr.NeedsAttention)
	require.Equal(t, reason, r.Reason, r.Hint)
	require.NotEmpty(t, r.Hint)
	require.NotContains(t, r.Hint, "@example.com")
	return r
}

// receipt adds up what the Tasks of a Request say that they did.
func (h *house) receipt(t *testing.T, id string) map[string]int64 {
	t.Helper()
	tasks, err := h.engine.Tasks(t.Context(), bob, id)
	require.NoError(t, err)
	got := map[string]int64{}
	for _, task := range tasks {
		if task.Receipt == nil {
			continue
		}
		for _, l := range task.Receipt.Lines {
			got[l.Entity+"/"+string(l.Method)] += l.Count
		}
	}
	return got
}

// heavyReceipt is what the erasure of subject 0 does.
var heavyReceipt = map[string]int64{"customers/delete": 1, "tickets/delete": heavyTickets, "notes/delete": 1}

// erased requires that subject 0 is gone, that nobody else lost anything, and that the receipt says so to the row.
func (h *house) erased(t *testing.T, w *target, id string) {
	t.Helper()
	h.await(t, id, dsr.Completed)
	require.Equal(t, heavyReceipt, h.receipt(t, id))
	require.Zero(t, w.count(t, "SELECT count(*) FROM customers WHERE id = 0"))
	require.Zero(t, w.count(t, "SELECT count(*) FROM tickets WHERE customer_id = 0"))
	require.EqualValues(t, others-1, w.count(t, "SELECT count(*) FROM customers"))
	require.EqualValues(t, 2*(others-1), w.count(t, "SELECT count(*) FROM tickets"))
	require.EqualValues(t, others-1, w.count(t, "SELECT count(*) FROM notes"))
}
