// Package report measures and prints what a benchmark found: every figure with its floor or peer from the same run,
// and the ratio that is the target. Machines are shared and noisy; ratios last, seconds do not.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// Row is one figure of a benchmark.
type Row struct {
	What   string  `json:"what"`
	Ours   Figure  `json:"ours"`
	Floor  *Figure `json:"floor,omitempty"`
	Ratio  float64 `json:"ratio,omitempty"` // Ours over Floor, medians
	Target string  `json:"target"`
	Met    bool    `json:"met"`
	Note   string  `json:"note,omitempty"`
}

// Figure is the repetitions of one measurement.
type Figure struct {
	Unit   string  `json:"unit"` // "s", "1/s", "MiB"
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// FigureOf summarises repetitions; it panics when there are none.
func FigureOf(unit string, values ...float64) Figure {
	sorted := slices.Sorted(slices.Values(values))
	return Figure{
		Unit: unit, Median: sorted[len(sorted)/2], Min: sorted[0], Max: sorted[len(sorted)-1], N: len(sorted),
	}
}

// Seconds runs fn once and returns how long it took.
func Seconds(fn func() error) (float64, error) {
	start := time.Now()
	err := fn()
	return time.Since(start).Seconds(), err
}

// Report is one area's result.
type Report struct {
	Area     string            `json:"area"`
	Seed     uint64            `json:"seed"`
	Scale    float64           `json:"scale"`
	At       time.Time         `json:"at"`
	Machine  map[string]string `json:"machine"`
	Versions map[string]string `json:"versions"`
	Rows     []Row             `json:"rows"`
}

// New starts the report of an area.
func New(area string, seed uint64) *Report {
	return &Report{
		Area: area, Seed: seed, At: time.Now().UTC().Truncate(time.Second),
		Machine:  map[string]string{"cpus": strconv.Itoa(runtime.NumCPU()), "cpu": cpuModel()},
		Versions: map[string]string{"go": runtime.Version()},
	}
}

// Add appends a row whose ratio must be at most limit.
func (r *Report) Add(what string, ours, floor Figure, limit float64, note string) {
	ratio := ours.Median / floor.Median
	r.Rows = append(r.Rows, Row{
		What: what, Ours: ours, Floor: &floor, Ratio: ratio, Target: fmt.Sprintf("<= %gx", limit), Met: ratio <= limit, Note: note,
	})
}

// AddAtLeast appends a row whose ratio must be at least limit: Ours and its floor are rates.
func (r *Report) AddAtLeast(what string, ours, floor Figure, limit float64, note string) {
	ratio := ours.Median / floor.Median
	r.Rows = append(r.Rows, Row{
		What: what, Ours: ours, Floor: &floor, Ratio: ratio, Target: fmt.Sprintf(">= %gx", limit), Met: ratio >= limit, Note: note,
	})
}

// AddBound appends a row without a floor: its median must be at most (or, with atLeast, at least) bound.
func (r *Report) AddBound(what string, ours Figure, bound float64, atLeast bool, note string) {
	sign, met := "<=", ours.Median <= bound
	if atLeast {
		sign, met = ">=", ours.Median >= bound
	}
	r.Rows = append(r.Rows, Row{
		What: what, Ours: ours, Target: fmt.Sprintf("%s %g %s", sign, bound, ours.Unit), Met: met, Note: note,
	})
}

// Write prints the table and stores the report under bench/results.
func (r *Report) Write() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tours\tfloor\tratio\ttarget\tmet\tnote")
	for _, row := range r.Rows {
		floor, ratio := "–", "–"
		if row.Floor != nil {
			floor, ratio = row.Floor.String(), fmt.Sprintf("%.2fx", row.Ratio)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%t\t%s\n", row.What, row.Ours, floor, ratio, row.Target, row.Met, row.Note)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Join("bench", "results")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, r.Area+".json"), append(b, '\n'), 0o644)
}

func (f Figure) String() string {
	return fmt.Sprintf("%.4g %s [%.4g–%.4g, n=%d]", f.Median, f.Unit, f.Min, f.Max, f.N)
}

// PeakMiB returns the process's peak resident memory (VmHWM) in MiB, 0 where the kernel does not tell.
func PeakMiB() float64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

// CPUSeconds returns the time that the cores have spent on this process.
func CPUSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return (time.Duration(u.Utime.Nano()) + time.Duration(u.Stime.Nano())).Seconds()
}

// ResetPeak makes PeakMiB count from now.
func ResetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o200) }

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
