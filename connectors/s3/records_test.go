package s3_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
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

// lake is the map of a bucket of events.
func lake() *connectors.System {
	return &connectors.System{
		Name: "lake", Identifiers: map[string]dsr.IdentifierKind{"user_id": dsr.KindOpaque, "email": dsr.KindEmail},
		Entities: []connectors.Entity{{
			Name: "events", Erase: dsr.Delete, Settings: map[string]any{"objects": "events/**", "format": "jsonl"},
			Fields: []connectors.Field{{Name: "user.id", Identifier: "user_id"}}, Mentions: []string{"text"},
		}},
	}
}

// event is one record.
func event(user, text string) string {
	return fmt.Sprintf(`{"user":{"id":%q},"text":%q}`, user, text) + "\n"
}

func zipped(t *testing.T, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := io.WriteString(w, text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

func unzipped(t *testing.T, b []byte) string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	require.NoError(t, err)
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(out)
}

// texts are what every version of every object says, unzipped, by key.
func (s *store) texts(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, p := range s.places(t) {
		if p.marker {
			out[p.key] = append(out[p.key], "marker")
			continue
		}
		b := s.get(t, p)
		if bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
			b = []byte(unzipped(t, b))
		}
		out[p.key] = append(out[p.key], string(b))
	}
	return out
}

func erase(t *testing.T, b connectors.Eraser, batch connectors.Batch) *connectortest.Journal {
	t.Helper()
	j := connectortest.NewJournal()
	require.NoError(t, b.Erase(background, connectors.Job{Batch: batch, Journal: j}))
	return j
}

func verify(t *testing.T, b connectors.Connector, batch connectors.Batch) []dsr.Residue {
	t.Helper()
	left, err := b.Verify(background, connectors.Search{Batch: batch, Keys: connectortest.NewJournal()})
	require.NoError(t, err)
	return left
}

func TestWhatSurvivesARewriting(t *testing.T) {
	t.Parallel()
	for name, parts := range map[string]bool{"in one": false, "in parts": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, true)
			rest := event("1", "stays")
			encoding, content := aws.String("gzip"), zipped(t, event("42", "goes")+rest)
			if parts { // of which each but the last has 5 MiB at least, on AWS and elsewhere
				rest = strings.Repeat(event("1", strings.Repeat("stays ", 100)), 20_000)
				encoding, content = nil, []byte(event("42", "goes")+rest)
			}
			s.put(t, "events/a", content, func(in *awss3.PutObjectInput) {
				in.ContentType, in.CacheControl = aws.String("application/x-ndjson"), aws.String("no-store")
				in.ContentEncoding, in.ContentDisposition = encoding, aws.String(`attachment; filename="a"`)
				in.ContentLanguage, in.Tagging = aws.String("sv"), aws.String("team=red%20blue&x=%2B")
				in.Metadata = map[string]string{"producer": "shop", "trace": "7"}
				in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256
			})
			untouched := s.put(t, "events/b", zipped(t, event("1", "nobody's of interest")))
			b := s.open(t, lake(), connectors.Options{})
			if parts {
				b.Parts(1<<20, 5<<20)
			}
			j := erase(t, b, connectors.Batch{subject("a", "user_id", "42")})
			require.Equal(t, map[string]int64{"a events delete": 1}, sums(j.Tallies()))
			got := s.texts(t)
			require.Len(t, got["events/a"], 1, "no version that held the record is left")
			require.True(t, got["events/a"][0] == rest)
			require.Equal(t, []string{event("1", "nobody's of interest")}, got["events/b"])
			require.Empty(t, s.uploads(t))

			h, err := s.Client.HeadObject(background, &awss3.HeadObjectInput{Bucket: &s.Name, Key: aws.String("events/a"), ChecksumMode: types.ChecksumModeEnabled})
			require.NoError(t, err)
			require.Equal(t, "application/x-ndjson", *h.ContentType)
			require.Equal(t, "no-store", *h.CacheControl)
			require.Equal(t, aws.ToString(encoding), aws.ToString(h.ContentEncoding))
			require.Equal(t, `attachment; filename="a"`, *h.ContentDisposition)
			require.Equal(t, "sv", *h.ContentLanguage)
			require.Equal(t, map[string]string{"producer": "shop", "trace": "7"}, h.Metadata)
			require.NotNil(t, h.ChecksumSHA256)
			tags, err := s.Client.GetObjectTagging(background, &awss3.GetObjectTaggingInput{Bucket: &s.Name, Key: aws.String("events/a")})
			require.NoError(t, err)
			labels := map[string]string{}
			for _, tag := range tags.TagSet {
				labels[*tag.Key] = *tag.Value
			}
			require.Equal(t, map[string]string{"team": "red blue", "x": "+"}, labels)
			for _, p := range s.places(t) {
				if p.key == "events/b" {
					require.Equal(t, *untouched.VersionId, p.id, "an object without a match is never written")
				}
			}
		})
	}
}

func TestRecordsOfNoncurrentVersions(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	mine, others := event("42", "goes"), event("1", "stays")
	s.put(t, "events/a", []byte(mine+others+others))
	s.put(t, "events/a", []byte(others))
	s.put(t, "events/b", []byte(others+mine))
	s.delete(t, "events/b")
	s.put(t, "events/c", []byte(others))
	s.delete(t, "events/c")
	b := s.open(t, lake(), connectors.Options{})
	batch := connectors.Batch{subject("a", "user_id", "42")}
	found, err := b.Locate(background, connectors.Query{Batch: batch})
	require.NoError(t, err)
	require.Equal(t, []connectors.Count{{Subject: "a", Entity: "events", Method: dsr.Delete, Rows: 2, TableRows: 1, Others: 3}}, found.Counts)
	require.Len(t, verify(t, b, batch), 1)
	j := erase(t, b, batch)
	require.Equal(t, map[string]int64{"a events delete": 2}, sums(j.Tallies()))
	require.Equal(t, map[string][]string{"events/a": {others}, "events/c": {others, "marker"}}, s.texts(t))
	require.Empty(t, verify(t, b, batch))
}

// A noncurrent version goes whole or not at all: a hold on anybody in it keeps it.
func TestAHoldKeepsTheVersionThatItsRecordIsIn(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	mine, held := event("42", "x"), event("7", "y")
	s.put(t, "events/a", []byte(mine+held))
	s.put(t, "events/a", []byte(held))
	b := s.open(t, lake(), connectors.Options{})
	batch := connectors.Batch{subject("a", "user_id", "42")}
	h := connectors.Holds{Subjects: connectors.Batch{subject("h", "user_id", "7")}}
	j := connectortest.NewJournal()
	require.NoError(t, b.Erase(background, connectors.Job{Batch: batch, Journal: j, Held: h}))
	require.Empty(t, j.Tallies())
	require.Equal(t, map[string][]string{"events/a": {held, mine + held}}, s.texts(t))
	left, err := b.Verify(background, connectors.Search{Batch: batch, Held: h, Keys: j})
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, dsr.CauseHold, left[0].Waits.Cause)
	require.Len(t, erase(t, b, batch).Tallies(), 1, "the hold is lifted")
	require.Empty(t, verify(t, b, batch))
}

func TestLockedRecordsWait(t *testing.T) {
	t.Parallel()
	s := newStore(t, true, locked)
	until := time.Now().Add(time.Hour)
	s.put(t, "events/a", []byte(event("42", "x")+event("1", "y")), func(in *awss3.PutObjectInput) {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = types.ObjectLockModeCompliance, aws.Time(time.Now().Add(2*time.Second))
	})
	b := s.open(t, lake(), connectors.Options{})
	batch := connectors.Batch{subject("a", "user_id", "42")}
	found, err := b.Locate(background, connectors.Query{Batch: batch})
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"a events wait": 1}, counts(found.Counts))
	require.Equal(t, dsr.CauseObjectLock, found.Counts[0].Exception.Cause)
	require.Empty(t, erase(t, b, batch).Tallies())
	left := verify(t, b, batch)
	require.Len(t, left, 1)
	require.Equal(t, dsr.CauseObjectLock, left[0].Waits.Cause)
	later := s.open(t, lake(), connectors.Options{Now: func() time.Time { return until }})
	require.Nil(t, verify(t, later, batch)[0].Waits, "what could go is residue")
}

// Somebody keeps appending to an object while it is rewritten: nothing of theirs is lost.
func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		versioned, parts := n%2 > 0, n/2 > 0
		t.Run(fmt.Sprintf("versioned %t, in parts %t", versioned, parts), func(t *testing.T) {
			t.Parallel()
			s := newStore(t, versioned)
			key := "events/a"
			s.put(t, key, []byte(event("42", "goes")+event("1", "first")))
			b := s.open(t, lake(), connectors.Options{})
			b.Chunks(1)
			if parts {
				b.Parts(1, 5<<20)
			}
			written := 0
			appendOne := func() { // as a careful writer does it
				for {
					out, err := s.Client.GetObject(background, &awss3.GetObjectInput{Bucket: &s.Name, Key: &key})
					require.NoError(t, err)
					old, err := io.ReadAll(out.Body)
					require.NoError(t, err)
					_, err = s.Client.PutObject(background, &awss3.PutObjectInput{
						Bucket: &s.Name, Key: &key, IfMatch: out.ETag, Body: bytes.NewReader(append(old, event("1", fmt.Sprint("late ", written))...)),
					})
					if err == nil {
						written++
						return
					}
					require.ErrorContains(t, err, "Precondition")
				}
			}
			j := connectortest.NewJournal()
			j.AtStep(func(_ int, name string) {
				if name == "s3.intent" && written < 3 {
					appendOne()
				}
			})
			batch := connectors.Batch{subject("a", "user_id", "42")}
			require.NoError(t, b.Erase(background, connectors.Job{Batch: batch, Journal: j}))
			require.Equal(t, 3, written)
			want := event("1", "first") + event("1", "late 0") + event("1", "late 1") + event("1", "late 2")
			require.Equal(t, want, s.texts(t)[key][0])
			for _, text := range s.texts(t)[key] {
				require.NotContains(t, text, "goes")
			}
			require.Equal(t, int64(1), sums(j.Tallies())["a events delete"])
		})
	}
}

func TestABusyWriterEndsInATransientError(t *testing.T) {
	t.Parallel()
	s := newStore(t, false)
	s.put(t, "events/a", []byte(event("42", "goes")))
	b := s.open(t, lake(), connectors.Options{})
	j := connectortest.NewJournal()
	n := 0
	j.AtStep(func(_ int, name string) {
		if name == "s3.intent" {
			n++
			s.put(t, "events/a", []byte(event("42", fmt.Sprint("again ", n))))
		}
	})
	job := connectors.Job{Batch: connectors.Batch{subject("a", "user_id", "42")}, Journal: j}
	err := b.Erase(background, job)
	require.Equal(t, dsr.CodeUnavailable, dsr.CodeOf(err))
	require.True(t, connectors.Transient(err))
	j.Heal()
	require.NoError(t, b.Erase(background, job))
	require.Equal(t, map[string][]string{"events/a": {""}}, s.texts(t))
}

func TestADamagedObjectNamesItsKeyWhereThatIsNobodys(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	whole := zipped(t, strings.Repeat(event("42", "x"), 1000))
	s.put(t, "events/2024-05/a.jsonl.gz", whole[:len(whole)/2])
	s.put(t, "events/b.jsonl", []byte(event("42", "goes")))
	b := s.open(t, lake(), connectors.Options{})
	batch := connectors.Batch{subject("a", "user_id", "42")}
	err := b.Erase(background, connectors.Job{Batch: batch, Journal: connectortest.NewJournal()})
	require.True(t, connectors.IsPermanent(err))
	require.ErrorContains(t, err, "events/2024-05/a.jsonl.gz")
	for _, p := range s.places(t) {
		if p.key == "events/b.jsonl" {
			require.Empty(t, s.get(t, p), "the other objects are worked")
		} else {
			require.Equal(t, whole[:len(whole)/2], s.get(t, p), "it is left as it was")
		}
	}
	var one *connectors.SubjectError
	require.True(t, errors.As(err, &one))
	require.Equal(t, "a", one.Subject)
}

func TestExportOfRecordsWritesEachOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	for n := range 4 {
		body := ""
		for i := range 600 {
			body += event("42", fmt.Sprintf("%d %d", n, i)) + event("1", "no")
		}
		s.put(t, "events/"+fmt.Sprint(n), []byte(body))
		s.put(t, "events/"+fmt.Sprint(n), []byte(body+event("42", "newer")))
	}
	batch := connectors.Batch{subject("a", "user_id", "42")}
	j := connectortest.NewJournal()
	sinks := connectortest.NewSinks(j)
	calls := 0
	for {
		calls++
		sinks.Rewind()
		ctx, cancel := context.WithCancel(background)
		if calls == 2 { // as if the process ended
			ctx = j.FailAt(ctx, "s3.exported", 1)
		}
		err := s.open(t, lake(), connectors.Options{}).Export(ctx, connectors.Job{Batch: batch, Journal: j, Deadline: time.Now()}, sinks.For)
		cancel()
		j.Heal()
		if err == nil {
			break
		}
		require.Less(t, calls, 100)
	}
	require.Greater(t, calls, 3)
	seen := map[string]int{}
	for _, r := range sinks.Records("a") {
		var doc struct{ Text string }
		require.NoError(t, json.Unmarshal([]byte(fmt.Sprintf("%s", r.Values["record"])), &doc))
		seen[doc.Text]++
	}
	require.Len(t, seen, 2401)
	require.Equal(t, 4, seen["newer"])
	delete(seen, "newer")
	for text, n := range seen {
		require.Equal(t, 1, n, text)
	}
	require.Equal(t, int64(2404), sums(j.Tallies())["a events export"])
}
