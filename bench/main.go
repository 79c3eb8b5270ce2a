// Command bench measures Lethe against floors and peers in the same run; `make bench AREA=erase` runs one area,
// AREA=all every one. It needs LETHE_TEST_POSTGRES_URL, which `make bench` sets. Results are printed and written to
// bench/results/AREA.json.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"

	"github.com/lethe-gdpr/lethe/bench/erase"
	"github.com/lethe-gdpr/lethe/bench/queue"
	"github.com/lethe-gdpr/lethe/bench/records"
	"github.com/lethe-gdpr/lethe/bench/report"
	"github.com/lethe-gdpr/lethe/bench/retention"
)

var areas = map[string]func(ctx context.Context, r *report.Report, scale float64) error{
	"erase":             erase.Run,
	"export":            erase.RunExport,
	"intake":            queue.RunIntake,
	"queue":             queue.RunQueue,
	"records":           records.Run,
	"retention":         retention.Run,
	"retention-mariadb": retention.RunMariaDB,
}

func main() {
	area := flag.String("area", "all", "what to measure")
	scale := flag.Float64("scale", 1, "size of the data; 1 is what the targets speak of")
	flag.Parse()
	if spec := os.Getenv(retention.LoadVariable); spec != "" {
		if err := retention.ServeLoad(context.Background(), spec, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "load:", err)
			os.Exit(1)
		}
		return
	}
	if err := measure(*area, *scale); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(area string, scale float64) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	names := []string{area}
	if area == "all" {
		names = slices.Sorted(maps.Keys(areas))
	}
	for _, name := range names {
		run, ok := areas[name]
		if !ok {
			return fmt.Errorf("no area %q; there are %v", name, slices.Sorted(maps.Keys(areas)))
		}
		r := report.New(name, 1)
		r.Scale = scale
		if err := run(ctx, r, scale); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := r.Write(); err != nil {
			return err
		}
	}
	return nil
}
