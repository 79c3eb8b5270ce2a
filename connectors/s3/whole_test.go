package s3_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
)

var background = context.Background()

// avatars is the map of a bucket of whole objects: by key, by tag, and by metadata.
func avatars() *connectors.System {
	return &connectors.System{
		Name: "files", Identifiers: map[string]dsr.IdentifierKind{"user_id": dsr.KindOpaque, "email": dsr.KindEmail},
		Entities: []connectors.Entity{
			{Name: "avatars", Erase: dsr.Delete, Settings: map[string]any{"objects": "avatars/{user_id}/**"}},
			{
				Name: "letters", Erase: dsr.Delete, Teaches: true, Settings: map[string]any{"objects": "letters/**"},
				Fields: []connectors.Field{{Name: "meta:customer", Identifier: "user_id"}, {Name: "tag:mail", Identifier: "email"}},
			},
			{Name: "mails", Erase: dsr.Delete, Settings: map[string]any{"objects": "mails/{email}/**"}},
		},
	}
}

func subject(ref string, ids ...string) connectors.Subject {
	s := connectors.Subject{Ref: ref}
	for i := 0; i < len(ids); i += 2 {
		s.Identifiers = append(s.Identifiers, dsr.Identifier{Name: ids[i], Value: dsr.NewSecret(ids[i+1]), Origin: dsr.Known})
	}
	return s
}

func meta(name, value string) func(*awss3.PutObjectInput) {
	return func(in *awss3.PutObjectInput) { in.Metadata = map[string]string{name: value} }
}

func tag(name, value string) func(*awss3.PutObjectInput) {
	return func(in *awss3.PutObjectInput) { in.Tagging = aws.String(name + "=" + value) }
}

func sums(ts []connectors.Tally) map[string]int64 {
	out := map[string]int64{}
	for _, t := range ts {
		out[t.Subject+" "+t.Entity+" "+string(t.Method)] += t.Rows
	}
	return out
}

func counts(cs []connectors.Count) map[string]int64 {
	out := map[string]int64{}
	for _, c := range cs {
		out[c.Subject+" "+c.Entity+" "+string(c.Method)] += c.Rows
	}
	return out
}

func keys(ps []place) []string {
	var out []string
	for _, p := range ps {
		out = append(out, p.key)
	}
	return out
}

func TestWholeObjectsGoInEveryVersion(t *testing.T) {
	t.Parallel()
	for _, versioned := range []bool{true, false} {
		t.Run(fmt.Sprint("versioned ", versioned), func(t *testing.T) {
			t.Parallel()
			s := newStore(t, versioned)
			s.put(t, "avatars/42/face.png", []byte("old"))
			s.put(t, "avatars/42/face.png", []byte("new"))
			s.put(t, "avatars/42/gone.png", []byte("x"))
			s.delete(t, "avatars/42/gone.png")
			s.begin(t, "avatars/42/half.png")
			s.begin(t, "avatars/420/half.png")
			s.put(t, "avatars/420/face.png", []byte("somebody else"))
			s.put(t, "avatars/7/42.png", []byte("somebody else"))
			s.put(t, "letters/1.pdf", []byte("by metadata"), meta("Customer", "42"))
			s.put(t, "letters/2.pdf", []byte("by tag"), tag("mail", "Anna%40Example.com"))
			s.put(t, "letters/3.pdf", []byte("another's"), meta("customer", "420"), tag("mail", "xanna%40example.com"))
			s.put(t, "mails/ANNA@example.com/1.eml", []byte("another case"))
			s.put(t, "mails/anna%40example.com/2.eml", []byte("encoded"))
			b := s.open(t, avatars(), connectors.Options{})
			batch := connectors.Batch{subject("a", "user_id", "42", "email", "anna@example.com"), subject("b", "user_id", "nobody")}

			want := map[string]int64{"a avatars delete": 2, "a letters delete": 2, "a mails delete": 2}
			if versioned { // two versions, a version with its marker, and the upload
				want["a avatars delete"] = 5
			}
			found, err := b.Locate(background, connectors.Query{Batch: batch})
			require.NoError(t, err)
			require.Equal(t, want, counts(found.Counts))
			require.Empty(t, found.Learned)

			left, err := b.Verify(background, connectors.Search{Batch: batch, Keys: connectortest.NewJournal()})
			require.NoError(t, err)
			require.Len(t, left, 3, "everything is still there")

			j := connectortest.NewJournal()
			require.NoError(t, b.Erase(background, connectors.Job{Batch: batch, Journal: j}))
			require.Equal(t, want, sums(j.Tallies()))
			require.Equal(t, []string{"avatars/420/face.png", "avatars/7/42.png", "letters/3.pdf"}, keys(s.places(t)))
			require.Equal(t, []string{"avatars/420/half.png"}, s.uploads(t))
			left, err = b.Verify(background, connectors.Search{Batch: batch, Keys: j})
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestIdentifiersAreLearnedFromWhatAnObjectSaysOfItself(t *testing.T) {
	t.Parallel()
	s := newStore(t, false)
	s.put(t, "letters/1.pdf", []byte("x"), meta("customer", "42"), tag("mail", "Anna%40Example.com"))
	b := s.open(t, avatars(), connectors.Options{})
	found, err := b.Locate(background, connectors.Query{Batch: connectors.Batch{subject("a", "user_id", "42")}, Teaching: true})
	require.NoError(t, err)
	require.Len(t, found.Learned, 1)
	require.Equal(t, "anna@example.com", found.Learned[0].Identifier.Value.Reveal())
	require.Equal(t, "files.letters", found.Learned[0].Identifier.Source)
}

func TestSaboteurOfWholeObjects(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	b := s.open(t, avatars(), connectors.Options{})
	batch := connectors.Batch{subject("a", "user_id", "42", "email", "anna@example.com")}
	for name, put := range map[string]func(){
		"a current version":    func() { s.put(t, "avatars/42/a", []byte("x")) },
		"a noncurrent version": func() { s.put(t, "letters/9", []byte("x"), meta("customer", "42")); s.put(t, "letters/9", []byte("x")) },
		"a delete marker": func() {
			p := s.put(t, "avatars/42/b", []byte("x"))
			s.delete(t, "avatars/42/b")
			_, err := s.Client.DeleteObject(background, &awss3.DeleteObjectInput{Bucket: &s.Name, Key: aws.String("avatars/42/b"), VersionId: p.VersionId})
			require.NoError(t, err)
		},
		"an unfinished upload": func() { s.begin(t, "mails/Anna@Example.com/1.eml") },
		"another case":         func() { s.put(t, "mails/aNNa@example.com/1.eml", []byte("x")) },
	} {
		put()
		left, err := b.Verify(background, connectors.Search{Batch: batch, Keys: connectortest.NewJournal()})
		require.NoError(t, err)
		require.NotEmpty(t, left, name)
		require.Nil(t, left[0].Waits, name)
		j := connectortest.NewJournal()
		require.NoError(t, b.Erase(background, connectors.Job{Batch: batch, Journal: j}))
		left, err = b.Verify(background, connectors.Search{Batch: batch, Keys: j})
		require.NoError(t, err)
		require.Empty(t, left, name)
	}
}

func TestLockedVersionsWait(t *testing.T) {
	t.Parallel()
	s := newStore(t, true, locked)
	until := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	s.put(t, "avatars/42/free", []byte("x"))
	s.put(t, "avatars/42/kept", []byte("first"), func(in *awss3.PutObjectInput) {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = types.ObjectLockModeGovernance, &until
	})
	s.put(t, "avatars/42/kept", []byte("second"))
	held := s.put(t, "avatars/42/held", []byte("x"), func(in *awss3.PutObjectInput) { in.ObjectLockLegalHoldStatus = types.ObjectLockLegalHoldStatusOn })
	now := time.Now()
	b := s.open(t, avatars(), connectors.Options{Now: func() time.Time { return now }})
	batch := connectors.Batch{subject("a", "user_id", "42")}

	found, err := b.Locate(background, connectors.Query{Batch: batch})
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"a avatars delete": 2, "a avatars wait": 2}, counts(found.Counts))
	for _, c := range found.Counts {
		if c.Method == dsr.Wait && c.Exception.Cause == dsr.CauseObjectLock {
			require.Equal(t, until, c.Exception.Ends.UTC())
		} else if c.Method == dsr.Wait {
			require.Equal(t, &dsr.Exception{Cause: dsr.CauseLegalHold}, c.Exception)
		}
	}
	j := connectortest.NewJournal()
	require.NoError(t, b.Erase(background, connectors.Job{Batch: batch, Journal: j}))
	require.Equal(t, map[string]int64{"a avatars delete": 2}, sums(j.Tallies()))
	_, err = s.Client.HeadObject(background, &awss3.HeadObjectInput{Bucket: &s.Name, Key: aws.String("avatars/42/kept")})
	require.Error(t, err, "the version below must not be shown again because the one above went")

	left, err := b.Verify(background, connectors.Search{Batch: batch, Keys: j})
	require.NoError(t, err)
	require.NotEmpty(t, left)
	for _, r := range left {
		require.NotNil(t, r.Waits)
	}
	// once it could go it is residue, and goes
	_, err = s.Client.PutObjectLegalHold(background, &awss3.PutObjectLegalHoldInput{
		Bucket: &s.Name, Key: aws.String("avatars/42/held"), VersionId: held.VersionId,
		LegalHold: &types.ObjectLockLegalHold{Status: types.ObjectLockLegalHoldStatusOff},
	})
	require.NoError(t, err)
	left, err = b.Verify(background, connectors.Search{Batch: batch, Keys: j})
	require.NoError(t, err)
	require.Equal(t, int64(1), left[0].Count)
	require.Nil(t, left[0].Waits)
	again := connectortest.NewJournal()
	require.NoError(t, b.Erase(background, connectors.Job{Batch: batch, Journal: again}))
	require.Equal(t, map[string]int64{"a avatars delete": 1}, sums(again.Tallies()))
}

func TestHeldObjectsStay(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	s.put(t, "avatars/42/a", []byte("x"))
	s.put(t, "letters/1", []byte("x"), meta("customer", "42"))
	b := s.open(t, avatars(), connectors.Options{})
	batch := connectors.Batch{subject("a", "user_id", "42")}
	for name, h := range map[string]connectors.Holds{
		"the subject":  {Subjects: connectors.Batch{subject("h", "user_id", "42")}},
		"the entities": {Entities: []connectors.Frozen{{Entity: "avatars"}, {Entity: "letters"}}},
		"a condition":  {Entities: []connectors.Frozen{{Entity: "avatars"}, {Entity: "letters", When: []dsr.Condition{{Field: "meta:customer", Values: []string{"42"}}}}}},
		"a condition on what objects do not have": {Entities: []connectors.Frozen{{Entity: "avatars"}, {Entity: "letters", When: []dsr.Condition{{Field: "x", Null: true}}}}},
	} {
		j := connectortest.NewJournal()
		require.NoError(t, b.Erase(background, connectors.Job{Batch: batch, Journal: j, Held: h}), name)
		require.Empty(t, j.Tallies(), name)
		left, err := b.Verify(background, connectors.Search{Batch: batch, Keys: j, Held: h})
		require.NoError(t, err)
		require.Len(t, left, 2, name)
		for _, r := range left {
			require.Equal(t, dsr.CauseHold, r.Waits.Cause, name)
		}
	}
	require.Len(t, s.places(t), 2)
}

func TestExportOfWholeObjects(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	old := s.put(t, "avatars/42/a", []byte("old"))
	s.put(t, "avatars/42/a", []byte("new"))
	s.put(t, "avatars/43/a", []byte("another's"))
	s.put(t, "letters/1", bytes.Repeat([]byte("x"), 100_000), meta("customer", "42"))
	b := s.open(t, avatars(), connectors.Options{})
	batch := connectors.Batch{subject("a", "user_id", "42")}
	found, err := b.Locate(background, connectors.Query{Batch: batch, Export: true})
	require.NoError(t, err)
	j := connectortest.NewJournal()
	sinks := connectortest.NewSinks(j)
	require.NoError(t, b.Export(background, connectors.Job{Batch: batch, Journal: j}, sinks.For))
	require.Equal(t, counts(found.Counts), sums(j.Tallies()))
	var names []string
	for _, r := range sinks.Records("a") {
		names = append(names, fmt.Sprintf("%v %d", r.Values["name"], len(r.Values["content"].(string))))
	}
	require.Equal(t, []string{"avatars/42/a 3", "versions/" + *old.VersionId + "/avatars/42/a 3", "letters/1 100000"}, names)
}

func TestMapsThatABucketCannotKeep(t *testing.T) {
	t.Parallel()
	s := newStore(t, false)
	for name, change := range map[string]func(*connectors.System){
		"masks of whole objects":      func(m *connectors.System) { m.Entities[0].Erase = dsr.Mask },
		"a field of no object":        func(m *connectors.System) { m.Entities[1].Fields[0].Name = "customer" },
		"an unknown identifier":       func(m *connectors.System) { delete(m.Identifiers, "user_id") },
		"expire":                      func(m *connectors.System) { m.Entities[0].Erase = dsr.Expire },
		"a tenant that nothing says":  func(m *connectors.System) { m.TenantName = "account" },
		"an endpoint with a password": func(m *connectors.System) { m.Settings["endpoint"] = "http://a:b@127.0.0.1" },
		"half a key":                  func(m *connectors.System) { delete(m.Settings, "secret_key") },
		"a directory bucket":          func(m *connectors.System) { m.Settings["bucket"] = "x--use1-az4--x-s3" },
		"a format nobody knows":       func(m *connectors.System) { m.Entities[0].Settings["format"] = "docx" },
	} {
		m := avatars()
		m.Settings = s.settings()
		change(m)
		_, err := openErr(m)
		require.ErrorIs(t, err, &dsr.Error{Code: dsr.CodeInvalid}, name)
	}
}

// An object that names two of a batch goes with either, and is credited once, to the first.
func TestAnObjectOfTwoIsCreditedOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	b := s.open(t, avatars(), connectors.Options{})
	both := connectors.Batch{subject("a", "user_id", "42"), subject("b", "email", "bert@example.com")}
	for _, batch := range []connectors.Batch{both, both[1:]} {
		s.put(t, "letters/1", []byte("x"), meta("customer", "42"), tag("mail", "bert%40example.com"))
		found, err := b.Locate(background, connectors.Query{Batch: batch})
		require.NoError(t, err)
		require.Len(t, found.Counts, len(batch), "it counts for each")
		require.Equal(t, map[string]int64{batch[0].Ref + " letters delete": 1}, sums(erase(t, b, batch).Tallies()))
		require.Empty(t, s.places(t))
	}
}
