package connectors_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
)

func TestWhatAColumnTakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		column   connectors.Column
		yes, not []string
	}{
		{connectors.Column{Class: connectors.ClassText}, []string{"", "a@example.com", "12x"}, nil},
		{connectors.Column{Class: connectors.ClassInteger}, []string{"0", "-3", "18446744073709551615"}, []string{"", " 1", "12x", "1.5", "18446744073709551616"}},
		{connectors.Column{Class: connectors.ClassNumber}, []string{"10", "10.0", "-1e3"}, []string{"ten", "NaN", "inf"}},
		{connectors.Column{Class: connectors.ClassBool}, []string{"true", "F", "1"}, []string{"yes", "2", ""}},
		{connectors.Column{Class: connectors.ClassDate}, []string{"2024-02-29"}, []string{"2025-02-29", "01/02/2024", "2024-02-29 10:00:00"}},
		{connectors.Column{Class: connectors.ClassTime}, []string{"2024-02-29", "2024-02-29 10:00:00", "2024-02-29T10:00:00Z", "2024-02-29 10:00:00+01"}, []string{"today", "2024-02-30"}},
		{connectors.Column{Class: connectors.ClassTime, Type: "datetime(6)"}, []string{"2024-02-29", "2024-02-29 10:00:00"}, []string{"2024-02-29T10:00:00Z", "2024-02-29 10:00:00+01"}},
		{connectors.Column{Class: connectors.ClassTime, Type: "timestamp without time zone"}, []string{"2024-02-29 10:00:00"}, []string{"2024-02-29T10:00:00Z"}},
		{connectors.Column{Class: connectors.ClassTime, Type: "timestamp(3) with time zone"}, []string{"2024-02-29T10:00:00Z", "2024-02-29 10:00:00+01"}, []string{"2024-02-29", "2024-02-29 10:00:00"}},
		{connectors.Column{Class: connectors.ClassUUID}, []string{"123E4567-e89b-12d3-a456-426614174000"}, []string{"not-a-uuid", "12"}},
		{connectors.Column{Class: connectors.ClassIP}, []string{"10.0.0.1", "10.0.0.0/8", "::1"}, []string{"10.0.0", "localhost"}},
		{connectors.Column{Class: connectors.ClassEnum, Enum: []string{"open", "Closed"}}, []string{"open", "Closed"}, []string{"closed", ""}},
	} {
		for _, v := range c.yes {
			require.True(t, c.column.Takes(v), "%s %q", c.column.Class, v)
		}
		for _, v := range c.not {
			require.False(t, c.column.Takes(v), "%s %q", c.column.Class, v)
		}
		require.True(t, c.column.Comparable())
	}
	for _, class := range []connectors.ColumnClass{connectors.ClassJSON, connectors.ClassArray, connectors.ClassBinary} {
		require.False(t, (&connectors.Column{Class: class}).Comparable())
	}
	require.False(t, (&connectors.Column{Class: connectors.ClassOther, Type: "xml"}).Comparable())
	require.False(t, (&connectors.Column{Class: connectors.ClassOther, Type: "POINT"}).Comparable())
	require.True(t, (&connectors.Column{Class: connectors.ClassOther, Type: "money"}).Comparable())
}
