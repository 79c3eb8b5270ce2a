// Package records measures the rewriting of an event lake's objects against the tools that people use for it now.
package records

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"

	"github.com/lethe-gdpr/lethe/bench/report"
	"github.com/lethe-gdpr/lethe/connectors"
	lethe "github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

const (
	repetitions = 5
	size        = 250 << 20 // of the object, uncompressed
	population  = 200_000   // people in it
	erased      = 100
)

// lake is one object in a folder of its own, in the ways in which it is measured.
type lake struct {
	dir     string
	foreign string // as gzip(1) writes it
	ours    string // as Lethe does
}

func user(n int) string { return fmt.Sprintf("u%08d", n) }

// fill writes events of the population.
func fill(w io.Writer, seed uint64, bytes int64) error {
	rnd := rand.New(rand.NewPCG(seed, 0))
	events := []string{"page_view", "search", "add_to_basket", "checkout", "sign_in", "message_sent"}
	words := []string{"winter", "boots", "red", "wool", "lamp", "table", "oak", "large", "garden", "kettle", "paper", "blue"}
	out := bufio.NewWriterSize(w, 1<<20)
	for written, n := int64(0), 0; written < bytes; n++ {
		at := 1_760_000_000_000 + int64(n)*37
		m, err := fmt.Fprintf(
			out, `{"id":"%016x","ts":%d,"event":%q,"user_id":%q,"session":"%08x","ip":"198.51.%d.%d","page":"/%s/%s/%d","ms":%d,"query":"%s %s"}`+"\n",
			rnd.Uint64(), at, events[rnd.IntN(len(events))], user(rnd.IntN(population)), rnd.Uint32(), rnd.IntN(256), rnd.IntN(256),
			words[rnd.IntN(len(words))], words[rnd.IntN(len(words))], rnd.IntN(5000), rnd.IntN(900), words[rnd.IntN(len(words))], words[rnd.IntN(len(words))],
		)
		if err != nil {
			return err
		}
		written += int64(m)
	}
	return out.Flush()
}

func open(ctx context.Context, r *report.Report, scale float64) (l lake, err error) {
	if l.dir, err = os.MkdirTemp("", "lethe-bench-"); err != nil {
		return l, err
	}
	l.foreign, l.ours = filepath.Join(l.dir, "foreign.json.gz"), filepath.Join(l.dir, "ours.json.gz")
	plain := filepath.Join(l.dir, "plain.json")
	bytes := int64(size * scale)
	fmt.Printf("writing an object of %d MiB\n", bytes>>20)
	f, err := os.Create(plain)
	if err != nil {
		return l, err
	}
	if err := fill(f, r.Seed, bytes); err != nil {
		return l, err
	}
	if err := f.Close(); err != nil {
		return l, err
	}
	if err := shell(ctx, "gzip -c "+plain+" > "+l.foreign); err != nil {
		return l, err
	}
	if err := os.Remove(plain); err != nil {
		return l, err
	}
	_, err = rewrite(ctx, finder(population), l.foreign, l.ours) // nobody is erased
	return l, err
}

func shell(ctx context.Context, command string) error {
	cmd := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", command)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// finder looks for subjects that are spread evenly over the population.
func finder(subjects ...int) *lethe.Finder {
	e := &connectors.Entity{
		Name: "events", Erase: dsr.Delete, Settings: map[string]any{"format": "jsonl"},
		Fields:      []connectors.Field{{Name: "user_id", Identifier: "user_id"}},
		NotPersonal: []string{"id", "ts", "event", "session", "ip", "page", "ms", "query"},
	}
	sys := &connectors.System{Name: "lake", Identifiers: map[string]dsr.IdentifierKind{"user_id": dsr.KindOpaque}}
	l, err := lethe.NewLayout(sys, e, connectors.Options{})
	if err != nil {
		panic(err) // the map is above
	}
	var b connectors.Batch
	for _, n := range subjects {
		b = append(b, connectors.Subject{
			Ref: user(n), Identifiers: []dsr.Identifier{{Name: "user_id", Value: dsr.NewSecret(user(n))}},
		})
	}
	return l.Find(b, connectors.Holds{})
}

func rewrite(ctx context.Context, f *lethe.Finder, from, to string) (t lethe.Totals, err error) {
	in, err := os.Open(from)
	if err != nil {
		return t, err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return t, err
	}
	if t, err = f.Rewrite(ctx, from, in, out); err != nil {
		return t, err
	}
	return t, out.Close()
}

// Run measures the rewriting of gzip-compressed JSON Lines.
func Run(ctx context.Context, r *report.Report, scale float64) error {
	l, err := open(ctx, r, scale)
	if err != nil {
		return err
	}
	defer os.RemoveAll(l.dir)
	missing := ""
	if _, err := exec.LookPath("duckdb"); err != nil {
		missing = "; DuckDB is not installed here, so its COPY is not measured"
	}
	many := make([]int, erased)
	for i := range many {
		many[i] = i * (population / erased)
	}
	hundred, alone := finder(many...), finder(many[erased/2])
	if err := l.agree(ctx, hundred, many); err != nil {
		return err
	}

	var ours, pipe, one, whole, pipeOne, search, gunzip []float64
	cpu := map[*[]float64][]float64{} // of this process, which other load on the machine stretches less than the clock
	var peak, process float64
	out := filepath.Join(l.dir, "out.gz")
	grep := func(who ...int) (string, error) { return l.grep(out, who) }
	hundredByGrep, err := grep(many...)
	if err != nil {
		return err
	}
	oneByGrep, err := grep(many[erased/2])
	if err != nil {
		return err
	}
	for n := range repetitions + 1 { // the first warms up
		debug.FreeOSMemory()
		report.ResetPeak()
		idle := report.PeakMiB()
		measured := []struct {
			to *[]float64
			fn func() error
		}{
			{&ours, func() error { _, err := rewrite(ctx, hundred, l.foreign, out); return err }},
			{&one, func() error { _, err := rewrite(ctx, alone, l.ours, out); return err }},
			{&whole, func() error { _, err := rewrite(ctx, alone, l.foreign, out); return err }},
			{&search, func() error {
				in, err := os.Open(l.ours)
				if err != nil {
					return err
				}
				defer in.Close()
				_, err = alone.Scan(ctx, l.ours, in, nil)
				return err
			}},
			{&pipe, func() error { return shell(ctx, hundredByGrep) }},
			{&pipeOne, func() error { return shell(ctx, oneByGrep) }},
			{&gunzip, func() error { return shell(ctx, "zcat "+l.ours+" > /dev/null") }},
		}
		for _, m := range measured {
			used := report.CPUSeconds()
			seconds, err := report.Seconds(m.fn)
			if err != nil {
				return err
			}
			if n > 0 {
				*m.to = append(*m.to, seconds)
				cpu[m.to] = append(cpu[m.to], report.CPUSeconds()-used)
			}
		}
		peak, process = max(peak, report.PeakMiB()-idle), max(process, report.PeakMiB())
	}
	s := func(v []float64) report.Figure { return report.FigureOf("s", v...) }
	foreignSize, oursSize := fileSize(l.foreign), fileSize(l.ours)
	mib := float64(size) * scale / (1 << 20)
	r.Add("rewrite: gzip JSON Lines, remove 100 subjects", s(ours), s(pipe), 0.5,
		fmt.Sprintf("%.0f MiB uncompressed; floor: zcat | grep -vFf | gzip%s", mib, missing))
	r.AddBound("peak memory of all rows", report.FigureOf("MiB", peak), 64, false,
		fmt.Sprintf("above idle; %.0f MiB in all, code of every connector and of the control plane included", process))
	r.Add("rewrite: one subject, object written by Lethe", s(one), s(pipeOne), 0.25, "floor: the whole rewritten by zcat | grep -vF | gzip")
	r.Add("the same against Lethe's own rewrite of the whole", s(one), s(whole), 0.25,
		fmt.Sprintf("floor: Lethe on the same records in one member; CPU %.2f s against %.2f s, %.2fx",
			s(cpu[&one]).Median, s(cpu[&whole]).Median, s(cpu[&one]).Median/s(cpu[&whole]).Median))
	r.Add("search: one subject, object written by Lethe", s(search), s(gunzip), 1, "floor: zcat > /dev/null")
	r.AddBound("size of an object written by Lethe", report.FigureOf("x", oursSize/foreignSize), 1.02, false, "against gzip(1) at its default level")
	return nil
}

func fileSize(path string) float64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return float64(info.Size())
}

// grep returns the command that removes people's lines by their identifiers.
func (l lake) grep(out string, who []int) (string, error) {
	var list bytes.Buffer
	for _, n := range who {
		fmt.Fprintf(&list, "\"user_id\":%q\n", user(n))
	}
	path := filepath.Join(l.dir, fmt.Sprintf("people-%d", len(who)))
	return fmt.Sprintf("zcat %s | LC_ALL=C grep -vFf %s | gzip > %s", l.foreign, path, out), os.WriteFile(path, list.Bytes(), 0o600)
}

// agree sees that both leave the same records.
func (l lake) agree(ctx context.Context, f *lethe.Finder, who []int) error {
	a, b := filepath.Join(l.dir, "a.gz"), filepath.Join(l.dir, "b.gz")
	command, err := l.grep(b, who)
	if err != nil {
		return err
	}
	t, err := rewrite(ctx, f, l.foreign, a)
	if err != nil {
		return err
	}
	if !t.Changed {
		return fmt.Errorf("nobody of %d people was found", len(who))
	}
	return shell(ctx, command+" && cmp <(zcat "+a+") <(zcat "+b+")")
}
