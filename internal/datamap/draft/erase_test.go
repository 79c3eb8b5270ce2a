package draft_test

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// journal is the least that a verb needs.
type journal struct {
	checkpoint []byte
	spool      map[string][]func(func(string, []connectors.Key) error) error
}

func (j *journal) Load(context.Context) ([]byte, error) { return slices.Clone(j.checkpoint), nil }

func (j *journal) Save(_ context.Context, cp []byte, _ []connectors.Tally) error {
	j.checkpoint = slices.Clone(cp)
	return nil
}

func (j *journal) Spool(_ context.Context, subject, entity string, keys []connectors.Key) error {
	keys = slices.Clone(keys)
	j.spool[entity] = append(j.spool[entity], func(fn func(string, []connectors.Key) error) error { return fn(subject, keys) })
	return nil
}

func (j *journal) Step(string) {}

func (j *journal) Each(_ context.Context, entity string, fn func(string, []connectors.Key) error) error {
	for _, page := range j.spool[entity] {
		if err := page(fn); err != nil {
			return err
		}
	}
	return nil
}

// rows fill the schemas of testdata: Ada is erased, Bob stays. Every value of Ada's begins with "ada".
var rows = map[string]struct{ fill, keeps string }{
	"forum": {
		`
INSERT INTO Member (memberId, loginName, emailAddress, realName, signature, passwordHash, registrationIp)
  VALUES (1, 'ada', 'ada@example.com', 'ada l', 'ada signs', 'ada hash', '192.0.2.1'), (2, 'bob', 'bob@example.com', 'bob', NULL, 'x', NULL);
INSERT INTO Board VALUES (1, 'General', 1);
INSERT INTO Topic VALUES (1, 1, 1, 'ada asks', 0, 0), (2, 1, 2, 'bob asks', 0, 0);
INSERT INTO Post VALUES (1, 1, 1, NULL, 'ada writes', NULL, NULL, 0), (2, 2, 2, NULL, 'bob writes', NULL, NULL, 0), (3, 2, 1, 2, 'ada answers', NULL, NULL, 0);
INSERT INTO PrivateMessage VALUES (1, 1, 2, 'hello', 'how are you', NULL), (2, 2, 1, 'from bob', 'bob says', NULL);
INSERT INTO MemberSession VALUES ('k', 1, '192.0.2.1', 'ada browser', 0);
INSERT INTO Reaction VALUES (2, 1, 'ada+1')`,
		"SELECT messageText FROM Post WHERE postId = 2 AND messageText = 'bob writes'",
	},
	"library": {
		`
INSERT INTO address VALUES (1, 'ada street', NULL, 'ada zip', NULL), (2, 'shared street', NULL, NULL, NULL);
INSERT INTO staff VALUES (1, 'bob', 'b', 'bob@example.com', 2);
INSERT INTO branch VALUES (1, 1, 2, NULL);
INSERT INTO book VALUES (1, 'a book', NULL);
INSERT INTO copy_ VALUES (1, 1, 1);
INSERT INTO borrower VALUES (1, 'ada 1', 'ada', 'ada l', 'ada@example.com', NULL, 1, NULL, 1);
INSERT INTO loan VALUES (1, 1, 1, 1, NULL, 'ada was late')`,
		"SELECT line1 FROM address WHERE id = 2 AND line1 = 'shared street'",
	},
	"webshop": {
		`
INSERT INTO shop_kunden (kunden_nr, vorname, nachname, eMail, pw_hash, angelegt_am)
  VALUES (1, 'ada', 'ada l', 'ada@example.com', 'ada', now()), (2, 'bob', 'bob', 'bob@example.com', 'x', now());
INSERT INTO shop_adressen (id, kunden_nr, strasse, plz, ort, land) VALUES (1, 1, 'ada str', '1', 'ada town', 'DE'), (2, 2, 'bobs str', '1', 'x', 'DE');
INSERT INTO shop_artikel VALUES (1, 'ring', 1, NULL, 1);
INSERT INTO shop_bestellungen VALUES (1, 1, 1, now(), 'offen', 1, 'ada comments', NULL), (2, 2, 2, now(), 'offen', 1, 'bob comments', NULL);
INSERT INTO shop_positionen VALUES (1, 1, 1, 1, 1, 'for ada'), (2, 2, 1, 1, 1, 'for bob');
INSERT INTO shop_bankverbindungen (id, kunden_nr, kontoinhaber, iban) VALUES (1, 1, 'ada l', 'ada iban');
INSERT INTO shop_bewertungen VALUES (1, 1, 1, 5, 'ada likes', 1);
INSERT INTO shop_newsletter VALUES (1, 'ada@example.com', NULL)`,
		"SELECT gravur FROM shop_positionen WHERE gravur = 'for bob'",
	},
	"helpdesk": {
		`
INSERT INTO hr.employees (id, full_name, work_email) VALUES ('00000000-0000-0000-0000-000000000009', 'bob', 'bob@example.com');
INSERT INTO contacts (id, display_name, primary_email, custom, created_at)
  VALUES ('00000000-0000-0000-0000-000000000001', 'ada', 'ada@example.com', '{"x": "ada"}', now());
INSERT INTO tickets (requester_id, assignee_id, subject, state, opened)
  VALUES ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000009', 'ada asks', 'open', now());
INSERT INTO ticket_messages (ticket_id, from_address, body_html, sent_at) VALUES (1, 'ada@example.com', 'ada says', now());
INSERT INTO attachments VALUES ('00000000-0000-0000-0000-00000000000a', 'TicketMessage', '1', 'ada.png', 1),
  ('00000000-0000-0000-0000-00000000000b', 'Contact', '00000000-0000-0000-0000-000000000001', 'ada.jpg', 1);
INSERT INTO tags VALUES (1, 'slow');
INSERT INTO ticket_tags VALUES (1, 1);
INSERT INTO login_history VALUES (1, '00000000-0000-0000-0000-000000000001', '192.0.2.1', 'ada browser', true, now())`,
		"SELECT full_name FROM hr.employees WHERE full_name = 'bob'",
	},
	"clinic": {
		`
INSERT INTO patients (ipp, nom_naissance, prenoms, date_naissance, courriel) VALUES ('ada-1', 'ada', 'ada', '1990-01-01', 'ada@example.com'),
  ('bob-1', 'bob', 'bob', '1990-01-01', 'bob@example.com');
INSERT INTO praticiens VALUES ('r1', 'doc', 'doc', NULL, NULL);
INSERT INTO sejours VALUES (1, 1, 'ada-1', '2026-01-01', NULL, 'ada is ill'), (1, 2, 'bob-1', '2026-01-01', NULL, 'bob is ill');
INSERT INTO actes VALUES (1, 1, 1, 'r1', 'AAAA001', 'ada was seen', '2026-01-01'), (2, 1, 2, 'r1', 'AAAA001', 'bob was seen', '2026-01-01');
INSERT INTO resultats VALUES (1, 'ada-1', 'x', '1', 'ada result', NULL);
INSERT INTO allergies VALUES ('ada-1', 'nuts', NULL);
INSERT INTO couverture VALUES ('ada-1', 'ada ins', NULL, NULL)`,
		"SELECT compte_rendu FROM actes WHERE compte_rendu = 'bob was seen'",
	},
}

// A draft that nobody corrected erases a person from every table that it maps, and nobody else.
func TestDraftErases(t *testing.T) {
	t.Parallel()
	for _, c := range schemas {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text, m := drafted(t, c.backend, c.name)
			s := m.System(c.name)
			raw := rawOf(t, c.backend, s.Settings["dsn"].(string))
			for _, stmt := range strings.Split(rows[c.name].fill, ";\n") {
				_, err := raw.Exec(stmt)
				require.NoError(t, err, stmt)
			}
			db := open(t, s)
			batch := connectors.Batch{{Ref: "t1", Identifiers: []dsr.Identifier{{Name: "email", Value: dsr.NewSecret("ada@example.com")}}}}
			located, err := db.Locate(context.Background(), connectors.Query{Batch: batch})
			require.NoError(t, err)
			for _, l := range located.Learned {
				batch[0].Identifiers = append(batch[0].Identifiers, l.Identifier)
			}
			j := &journal{spool: map[string][]func(func(string, []connectors.Key) error) error{}}
			require.NoError(t, db.Erase(context.Background(), connectors.Job{Batch: batch, Journal: j}), text)
			residue, err := db.Verify(context.Background(), connectors.Search{Batch: batch, Keys: j})
			require.NoError(t, err)
			require.Empty(t, residue)

			schema, err := db.Describe(context.Background())
			require.NoError(t, err)
			for _, e := range schema.Entities {
				for _, line := range dump(t, raw, c.backend, e.Name) {
					require.NotContains(t, line, "ada", "%s\n%s", e.Name, text)
				}
			}
			var kept string
			require.NoError(t, raw.QueryRow(rows[c.name].keeps).Scan(&kept), text)
		})
	}
}

func rawOf(t *testing.T, backend, url string) *sql.DB {
	t.Helper()
	driver, dsn := driverOf(backend, url)
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// dump returns the rows of a table as text.
func dump(t *testing.T, db *sql.DB, backend, table string) []string {
	t.Helper()
	quote := `"`
	if backend == "mariadb" {
		quote = "`"
	}
	rs, err := db.Query("SELECT * FROM " + quote + strings.ReplaceAll(table, ".", quote+"."+quote) + quote)
	require.NoError(t, err)
	defer func() { _ = rs.Close() }()
	cols, err := rs.Columns()
	require.NoError(t, err)
	var out []string
	for rs.Next() {
		values, into := make([]sql.NullString, len(cols)), make([]any, len(cols))
		for i := range values {
			into[i] = &values[i]
		}
		require.NoError(t, rs.Scan(into...))
		var sb strings.Builder
		for i, v := range values {
			sb.WriteString(cols[i][:1] + "=" + v.String + " ")
		}
		out = append(out, sb.String())
	}
	require.NoError(t, rs.Err())
	return out
}
