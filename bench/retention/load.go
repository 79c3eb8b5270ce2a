package retention

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// LoadVariable holds, as JSON, what load this process is: see [ServeLoad].
const LoadVariable = "LETHE_BENCH_LOAD"

// load is a steady stream of small statements, as an application's users make it: four of five read an order with its
// lines, the fifth changes an order. Orders are picked evenly, due or not. It is a process of its own, so that its share
// of the cores can be told from the sweep's.
type load struct {
	DSN         string        `json:"dsn"`
	Every       time.Duration `json:"every"` // between two statements of one connection
	Connections int           `json:"connections"`
	Orders      int           `json:"orders"`
	Seed        uint64        `json:"seed"`
}

// felt is what the load's users felt.
type felt struct {
	Answers []answer `json:"answers"`
	Share   float64  `json:"share"` // of all cores, that the process used
}

// answer is one statement: when it was due to be sent, and how long after that its answer came.
type answer struct {
	Due  time.Time     `json:"due"`
	Took time.Duration `json:"took"`
}

// span is a time in which statements are counted together.
type span struct{ from, to time.Time }

// warm is how long a load runs before anything is measured.
const warm = time.Second

// quantile is the latency, in milliseconds, that a share q of the statements due within the spans does not pass; 0 when
// there are none.
func (f *felt) quantile(q float64, spans []span) float64 {
	var sorted []time.Duration
	for _, a := range f.Answers {
		if slices.ContainsFunc(spans, func(s span) bool { return !a.Due.Before(s.from) && a.Due.Before(s.to) }) {
			sorted = append(sorted, a.Took)
		}
	}
	if len(sorted) == 0 {
		return 0
	}
	slices.Sort(sorted)
	rank := int(math.Ceil(q * float64(len(sorted))))
	return float64(sorted[max(rank, 1)-1].Microseconds()) / 1000
}

// under runs the load while fn works and returns what it felt.
func (l load) under(ctx context.Context, fn func(ctx context.Context) error) (felt, error) {
	var out felt
	spec, err := json.Marshal(l)
	if err != nil {
		return out, err
	}
	self, err := os.Executable()
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env, cmd.Stderr = append(os.Environ(), LoadVariable+"="+string(spec)), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return out, err
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		return out, err
	}
	if err := cmd.Start(); err != nil {
		return out, err
	}
	r := bufio.NewReader(answers)
	if _, err := r.ReadString('\n'); err != nil {
		return out, errors.Join(fmt.Errorf("the load did not start: %w", err), cmd.Wait())
	}
	failed := fn(ctx)
	if err := in.Close(); err != nil {
		return out, err
	}
	return out, errors.Join(failed, json.NewDecoder(r).Decode(&out), cmd.Wait())
}

// ServeLoad is the process of a load: it runs the one that spec describes, writes a line when it is warm, and what was
// felt from then on when in ends.
func ServeLoad(ctx context.Context, spec string, in io.Reader, out io.Writer) error {
	var l load
	if err := json.Unmarshal([]byte(spec), &l); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conns := make([]*pgx.Conn, l.Connections)
	for i := range conns {
		c, err := pgx.Connect(ctx, l.DSN)
		if err != nil {
			return err
		}
		defer c.Close(context.WithoutCancel(ctx))
		conns[i] = c
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var all felt
	var failed error
	start := time.Now()
	measured := start.Add(warm)
	for i, c := range conns {
		wg.Go(func() {
			answers, err := l.client(ctx, c, i, start, measured)
			mu.Lock()
			defer mu.Unlock()
			all.Answers = append(all.Answers, answers...)
			failed = errors.Join(failed, err)
		})
	}
	time.Sleep(warm)
	used := cpuTime()
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, in)
	all.Share = (cpuTime() - used).Seconds() / time.Since(measured).Seconds() / float64(runtime.NumCPU())
	cancel()
	wg.Wait()
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(all)
}

// client sends the statements of one connection when they are due. One that is late is sent at once and its delay
// counts: somebody waits for it.
func (l load) client(ctx context.Context, c *pgx.Conn, i int, start, measured time.Time) ([]answer, error) {
	rng := rand.New(rand.NewPCG(l.Seed, uint64(i)))
	due := start.Add(l.Every * time.Duration(i) / time.Duration(l.Connections))
	var out []answer
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return out, nil
		case <-time.After(time.Until(due)):
		}
		if err := l.statement(ctx, c, n, int64(rng.IntN(l.Orders)+1)); err != nil {
			if ctx.Err() != nil {
				return out, nil //nolint:nilerr // the load is over
			}
			return out, err
		}
		if due.After(measured) {
			out = append(out, answer{due, time.Since(due)})
		}
		due = due.Add(l.Every)
	}
}

func (l load) statement(ctx context.Context, c *pgx.Conn, n int, order int64) error {
	if n%5 == 4 {
		_, err := c.Exec(ctx, "UPDATE orders SET status = $2 WHERE id = $1", order, "shipped")
		return err
	}
	rows, err := c.Query(ctx, "SELECT o.status, o.note, l.note FROM orders o LEFT JOIN order_lines l ON l.order_id = o.id WHERE o.id = $1", order)
	if err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
