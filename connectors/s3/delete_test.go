package s3_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
)

// A version that comes under a lock after it was looked at cannot go: that is its subject's failure and nobody else's, and
// is counted as nothing.
func TestAVersionThatCannotGoFailsItsSubject(t *testing.T) {
	t.Parallel()
	s := newStore(t, true, locked)
	late := s.put(t, "avatars/42/late", []byte("x"))
	s.put(t, "avatars/42/free", []byte("x"))
	s.put(t, "avatars/43/free", []byte("x"))
	b := s.open(t, avatars(), connectors.Options{})
	batch := connectors.Batch{subject("a", "user_id", "42"), subject("b", "user_id", "43")}
	j := connectortest.NewJournal()
	j.AtStep(func(_ int, name string) {
		if name == "s3.intent" {
			_, err := s.Client.PutObjectLegalHold(background, &awss3.PutObjectLegalHoldInput{
				Bucket: &s.Name, Key: aws.String("avatars/42/late"), VersionId: late.VersionId,
				LegalHold: &types.ObjectLockLegalHold{Status: types.ObjectLockLegalHoldStatusOn},
			})
			require.NoError(t, err)
		}
	})
	err := b.Erase(background, connectors.Job{Batch: batch, Journal: j})
	var one *connectors.SubjectError
	require.ErrorAs(t, err, &one)
	require.Equal(t, "a", one.Subject)
	require.True(t, connectors.IsPermanent(err))
	require.Equal(t, dsr.CodeForbidden, dsr.CodeOf(err))
	require.NotContains(t, err.Error(), "42")
	require.Equal(t, map[string]int64{"a avatars delete": 1, "b avatars delete": 1}, sums(j.Tallies()))
	require.Equal(t, []string{"avatars/42/late"}, keys(s.places(t)))
}

// The answer to a DeleteObjects is a success even where every key of it failed.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
func TestDeletesThatTheServerIsTooBusyForAreTriedAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	for n := range 3 {
		s.put(t, fmt.Sprint("avatars/42/", n), []byte("x"))
	}
	f := newFront(t, s)
	busy, deletes := 2, 0
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || !r.URL.Query().Has("delete") {
			return false
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if deletes++; deletes > busy {
			return false
		}
		_, _ = io.WriteString(w, `<DeleteResult>`)
		for _, p := range s.places(t) {
			_, _ = fmt.Fprintf(w, `<Error><Key>%s</Key><VersionId>%s</VersionId><Code>SlowDown</Code><Message>m</Message></Error>`, p.key, p.id)
		}
		_, _ = io.WriteString(w, `</DeleteResult>`)
		return true
	}
	sys := avatars()
	sys.Settings = f.settings(s)
	b := s.open(t, sys, connectors.Options{})
	j := erase(t, b, connectors.Batch{subject("a", "user_id", "42")})
	require.Equal(t, map[string]int64{"a avatars delete": 3}, sums(j.Tallies()))
	require.Empty(t, s.places(t))
	require.Equal(t, 3, deletes)
}

// Nothing that held the records is removed before the server has been seen to hold what replaces it.
func TestTheOldVersionStaysWhereTheNewOneIsNotWhatWasPut(t *testing.T) {
	t.Parallel()
	for _, parts := range []bool{false, true} {
		s := newStore(t, true)
		old := s.put(t, "events/a", []byte(event("42", "goes")+event("1", "stays")))
		f := newFront(t, s)
		f.after = func(r *http.Response) error {
			if id := r.Request.URL.Query().Get("versionId"); r.Request.Method == http.MethodHead && id != "" && id != *old.VersionId {
				r.Header.Set("ETag", `"another"`)
			}
			return nil
		}
		sys := lake()
		sys.Settings = f.settings(s)
		b := s.open(t, sys, connectors.Options{})
		if parts {
			b.Parts(1, 5<<20)
		}
		j := connectortest.NewJournal()
		err := b.Erase(background, connectors.Job{Batch: connectors.Batch{subject("a", "user_id", "42")}, Journal: j})
		require.True(t, connectors.IsPermanent(err), "%v", err)
		require.Empty(t, j.Tallies())
		require.True(t, func() bool {
			for _, p := range s.places(t) {
				if p.id == *old.VersionId {
					return true
				}
			}
			return false
		}())
	}
}
