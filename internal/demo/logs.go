package demo

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/internal/cloudwatchserver"
)

// LogsFolder holds the web server's logs: the live one, and those that were rotated.
const LogsFolder = "logs"

// createLogs writes the logs of a web server in the combined format: who was signed in is in each line. Yesterday's file
// is plain, older ones are compressed. Nobody of interest was there today, so that nothing waits for tonight's rotation.
func createLogs(dir string, now time.Time) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(5, 5)) //nolint:gosec // made-up requests need no secrecy
	for age := range logDays {
		var lines strings.Builder
		for i := range dayRequests {
			id := 1 + rng.IntN(customers)
			switch {
			case age > 0 && i%50 == 3:
				id = subjectID
			case id == subjectID:
				id++
			}
			at := now.AddDate(0, 0, -age).Truncate(24 * time.Hour).Add(time.Duration(i) * time.Minute)
			fmt.Fprintf(&lines, "192.0.2.%d - %d [%s] \"GET /tickets/%d HTTP/1.1\" 200 %d \"-\" \"Example Browser\"\n",
				id%250+1, id, at.Format("02/Jan/2006:15:04:05 -0700"), rng.IntN(900), 200+rng.IntN(9000))
		}
		if err := writeLog(dir, age, []byte(lines.String())); err != nil {
			return err
		}
	}
	return nil
}

// Sizes of the logs.
const (
	logDays     = 6
	dayRequests = 400
)

// writeLog writes the log of so many days ago, as logrotate leaves it.
func writeLog(dir string, age int, text []byte) error {
	name := "access.log"
	if age > 0 {
		name += fmt.Sprintf(".%d", age)
	}
	if age > 1 {
		name += ".gz"
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(text); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		text = packed.Bytes()
	}
	return os.WriteFile(filepath.Join(dir, name), text, 0o600)
}

// The application's log group.
const (
	groupName    = "/helpdesk/api"
	groupKept    = 30 // days
	groupDays    = 20
	groupEntries = 40 // a day
)

// groups is an in-process stand-in for Amazon CloudWatch Logs.
type groups struct {
	endpoint string
	server   *http.Server
}

// startGroups serves a log group of the application. Single events cannot be deleted there, on Amazon's either.
func (d *demo) startGroups(ctx context.Context) error {
	logs := cloudwatchserver.New(time.Now)
	rng := rand.New(rand.NewPCG(11, 11)) //nolint:gosec // made-up events need no secrecy
	for age := groupDays; age > 0; age-- {
		for i := range groupEntries {
			id := 1 + rng.IntN(customers)
			if age%4 == 3 && i == 5 {
				id = subjectID
			}
			at := d.now.AddDate(0, 0, -age).Add(time.Duration(i) * time.Minute)
			logs.Put(groupName, "api-1", at, fmt.Sprintf(`{"level":"info","user_id":%d,"msg":"ticket opened","ticket":%d}`, id, rng.IntN(900)))
		}
	}
	logs.Retain(groupName, groupKept)
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.groups = &groups{endpoint: "http://" + l.Addr().String(), server: &http.Server{Handler: logs, ReadHeaderTimeout: 10 * time.Second}}
	go func() { _ = d.groups.server.Serve(l) }()
	return nil
}

func (g *groups) stop() error {
	if g == nil {
		return nil
	}
	if err := g.server.Close(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
