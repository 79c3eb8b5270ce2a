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
	"github.com/lethe-gdpr/lethe/bench/report"
)

var areas = map[string]func(ctx context.Context, r *report.Report, scale float64) error{
	"erase":  erase.Run,
	"export": erase.RunExport,
	"intake": queue.RunIntake,
	"queue":  queue.RunQueue,
}

func main() {
	area := flag.String("area", "all", "what to measure")
	scale := flag.Float64("scale", 1, "size of the data; 1 is what the targets speak of")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	names := []string{*area}
	if *area == "all" {
		names = slices.Sorted(maps.Keys(areas))
	}
	for _, name := range names {
		run, ok := areas[name]
		if !ok {
			fmt.Fprintf(os.Stderr, "bench: no area %q; there are %v\n", name, slices.Sorted(maps.Keys(areas)))
			os.Exit(2)
		}
		r := report.New(name, 1)
		r.Scale = *scale
		err := run(ctx, r, *scale)
		if err == nil {
			err = r.Write()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench %s: %v\n", name, err)
			os.Exit(1)
		}
	}
}
