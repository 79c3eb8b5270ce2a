package helpdesk_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/bench/helpdesk"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

func TestRowsPerSubject(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db, err := pgxpool.New(ctx, dbtest.Postgres(t))
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, helpdesk.Create(ctx, db, 10, 1))
	rows, err := helpdesk.EraseByHand(ctx, db, []string{helpdesk.Email(3), helpdesk.Email(7)})
	require.NoError(t, err)
	require.EqualValues(t, 2*helpdesk.RowsPerSubject, rows)
}
