package demo

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"time"

	_ "github.com/glebarez/go-sqlite" // the SQLite driver
)

//go:embed helpdesk.sql
var helpdeskSchema string

//go:embed analytics.sql
var analyticsSchema string

//go:embed forgotten.sql
var forgottenSchema string

//go:embed lethe.yaml
var mapText string

// What points at the person of the demo. The number is in the range that the Swedish regulator keeps for fiction.
const (
	SubjectEmail  = "robin.sample@example.com"
	SubjectName   = "Robin Sample"
	SubjectPhone  = "+46701740605"
	SubjectDevice = "dev-robin-7f3a91c2"
)

// SubjectTraces is every value that an erasure must remove from every file of the demo's databases.
func SubjectTraces() []string {
	return []string{SubjectEmail, SubjectName, SubjectPhone, SubjectDevice}
}

// Sizes of the helpdesk, besides the subject's own rows.
const (
	customers = 400
	subjectID = 137
	leftFrom  = 381
)

var (
	topics = []string{
		"Cannot sign in", "Invoice is wrong", "Printer offline", "Export is slow", "Update failed", "Change of address",
		"How do I add a colleague?", "Screen stays black",
	}
	sentences = []string{
		"It worked yesterday.", "I have restarted it twice.", "Could you have a look?", "Thanks, that helped.",
		"The same thing happens on my phone.", "Here is a picture.", "Has anybody seen this before?", "Never mind, solved.",
	}
)

func email(id int) string {
	if id == subjectID {
		return SubjectEmail
	}
	return fmt.Sprintf("customer%d@example.com", id)
}

// openFile opens or creates a database file as its owner would, with nothing of Lethe.
func openFile(path string) (*sql.DB, error) {
	q := url.Values{"_pragma": {"foreign_keys(1)", "secure_delete(1)", "busy_timeout(5000)"}}
	return sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
}

// fill runs a schema and fn in one transaction.
func fill(ctx context.Context, path, schema string, fn func(insert func(query string, args ...any))) (err error) {
	db, err := openFile(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // harmless after the commit
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return err
	}
	prepared := map[string]*sql.Stmt{}
	var failed error
	fn(func(query string, args ...any) {
		s := prepared[query]
		if s == nil && failed == nil {
			s, failed = tx.PrepareContext(ctx, query)
			prepared[query] = s
		}
		if failed == nil {
			_, failed = s.ExecContext(ctx, args...)
		}
	})
	for _, s := range prepared {
		if s != nil {
			failed = errors.Join(failed, s.Close())
		}
	}
	if failed != nil {
		return failed
	}
	return tx.Commit()
}

// createHelpdesk makes the company's main database: the same rows at every start.
func createHelpdesk(ctx context.Context, path string, now time.Time) error {
	rng := rand.New(rand.NewPCG(20, 26)) //nolint:gosec // made-up rows need no secrecy
	pick := func(list []string) string { return list[rng.IntN(len(list))] }
	ago := func(days int) string {
		return now.AddDate(0, 0, -rng.IntN(days)-1).Format(time.DateTime)
	}
	// Customers from leftFrom on have not been heard of for years.
	long := now.AddDate(-3, -2, 0).Format(time.DateTime)
	since := func(id int, at string) string {
		if id >= leftFrom {
			return long
		}
		return at
	}
	return fill(ctx, path, helpdeskSchema, func(insert func(string, ...any)) {
		for id := 1; id <= customers; id++ {
			name, phone := fmt.Sprintf("Customer %d", id), fmt.Sprintf("+4670174%04d", 1000+id)
			if id == subjectID {
				name, phone = SubjectName, SubjectPhone
			}
			insert("INSERT INTO customers VALUES (?, ?, ?, ?, ?)", id, email(id), name, phone, since(id, ago(900)))
			device := fmt.Sprintf("dev-%08x", rng.Uint32())
			if id == subjectID {
				device = SubjectDevice
			}
			insert("INSERT INTO devices VALUES (?, ?, ?, ?)", id, id, device, fmt.Sprintf("192.0.2.%d", id%250+1))
		}
		ticket, message := 0, 0
		say := func(ticket, from, to int, body string) {
			message++
			insert("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)", message, ticket, from, to, body, ago(60))
		}
		for id := 1; id <= customers; id++ {
			n := 1 + rng.IntN(3)
			if id == subjectID {
				n = 6
			}
			for range n {
				ticket++
				insert("INSERT INTO tickets VALUES (?, ?, ?, ?, ?)", ticket, id, pick(topics), pick(sentences), since(id, ago(90)))
				for range rng.IntN(4) {
					say(ticket, id, 1+rng.IntN(customers), pick(sentences))
				}
				if id == subjectID {
					say(ticket, id, 1+ticket%50, "Please call me on "+SubjectPhone+". "+pick(sentences))
					say(ticket, 60+ticket%50, id, "Hello, is this solved? "+pick(sentences))
					insert("INSERT INTO attachments VALUES (?, ?, ?, ?)", ticket, ticket, "screenshot.png",
						[]byte("\x89PNG sample of "+SubjectEmail))
				}
			}
		}
		// Other people write about the subject, in tickets that are not the subject's.
		for i := range 5 {
			say(1+i, 1+i, 30+i, "I shared the licence with "+SubjectEmail+", maybe ask there.")
		}
		for i := range 300 {
			owner := 1 + i%customers
			switch {
			case i < 4:
				owner = subjectID
			case i >= 295:
				owner = leftFrom + i - 295 // they have left, and their invoices must stay
			}
			insert("INSERT INTO invoices VALUES (?, ?, ?, ?, ?, ?)", i+1, owner, fmt.Sprintf("F-%05d", i+1),
				now.AddDate(-rng.IntN(5), -rng.IntN(12), 0).Format(time.DateOnly), 1900+rng.IntN(90000), "Sent to "+email(owner))
		}
	})
}

// createAnalytics makes a second database, which knows devices only and no customer.
func createAnalytics(ctx context.Context, path string, now time.Time) error {
	rng := rand.New(rand.NewPCG(7, 7)) //nolint:gosec // made-up rows need no secrecy
	return fill(ctx, path, analyticsSchema, func(insert func(string, ...any)) {
		view := 0
		for i := range 300 {
			device, views := fmt.Sprintf("dev-%08x", rng.Uint32()), rng.IntN(12)
			if i == subjectID {
				device, views = SubjectDevice, 45
			}
			insert("INSERT INTO visitors VALUES (?, ?)", device, now.AddDate(0, -3, 0).Format(time.DateTime))
			for range views {
				view++
				insert("INSERT INTO page_views VALUES (?, ?, ?, ?)", view, device, "/help/"+fmt.Sprint(rng.IntN(40)),
					now.Add(-time.Duration(rng.IntN(90*24))*time.Hour).Format(time.DateTime))
			}
		}
	})
}

// addForgottenTable is a later deployment of the helpdesk that nobody told the data map about.
func addForgottenTable(ctx context.Context, path string, now time.Time) error {
	return fill(ctx, path, forgottenSchema, func(insert func(string, ...any)) {
		for i := range 40 {
			insert("INSERT INTO newsletter_signups VALUES (?, ?, ?, ?)", i+1, i+1, email(i+1), now.Format(time.DateTime))
		}
	})
}

// vacuum gives back the pages that deleted rows leave, as the owner of an SQLite file does now and then.
func vacuum(ctx context.Context, path string) (err error) {
	db, err := openFile(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, "VACUUM")
	return err
}
