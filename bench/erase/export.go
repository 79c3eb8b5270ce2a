package erase

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/lethe-gdpr/lethe/bench/helpdesk"
	"github.com/lethe-gdpr/lethe/bench/report"
	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
)

// RunExport measures the copy of a subject with a million rows.
func RunExport(ctx context.Context, r *report.Report, scale float64) error {
	rows := int(1_000_000 * scale)
	s, end, err := open(ctx, r, 10_000)
	if err != nil {
		return err
	}
	defer end()
	if err := helpdesk.Grow(ctx, s.db, 0, rows); err != nil {
		return err
	}
	var us, them []float64
	var peak float64
	for i := range repetitions + 1 {
		floor, err := report.Seconds(func() error { return helpdesk.Copy(ctx, s.db, 0, io.Discard) })
		if err != nil {
			return err
		}
		runtime.GC()
		report.ResetPeak()
		before := report.PeakMiB()
		sink := &counting{}
		seconds, err := report.Seconds(func() error {
			return s.c.(connectors.Exporter).Export(ctx, connectors.Job{
				Batch: batch([]string{helpdesk.Email(0)}), Journal: connectortest.NewJournal(), Deadline: time.Now().Add(time.Hour),
			}, func(string) (connectors.Sink, error) { return sink, nil })
		})
		if err != nil {
			return err
		}
		if sink.records < rows {
			return fmt.Errorf("%d of %d records", sink.records, rows)
		}
		if i == 0 {
			continue
		}
		us, them = append(us, seconds), append(them, floor)
		peak = max(peak, report.PeakMiB()-before)
	}
	r.Add(fmt.Sprintf("export a subject with %d rows", rows), report.FigureOf("s", us...), report.FigureOf("s", them...), 2,
		"connector to a sink that counts, against COPY TO STDOUT")
	r.AddBound("its peak above idle", report.FigureOf("MiB", peak), 64, false, "")
	return nil
}

// counting is a sink that looks at every value and keeps none.
type counting struct{ records, bytes int }

func (c *counting) Record(_ string, _ []string, values []any) error {
	c.records++
	for _, v := range values {
		if s, ok := v.(string); ok {
			c.bytes += len(s)
		}
	}
	return nil
}

func (c *counting) File(_, _ string, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func (c *counting) Withheld(string, int64, dsr.Exception) error { return nil }
