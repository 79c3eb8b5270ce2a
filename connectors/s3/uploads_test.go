package s3_test

import (
	"bytes"
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

// upload begins an upload of one part and returns how it is completed.
func (s *store) upload(t *testing.T, key, body string) (complete func()) {
	t.Helper()
	up, err := s.Client.CreateMultipartUpload(background, &awss3.CreateMultipartUploadInput{Bucket: &s.Name, Key: &key})
	require.NoError(t, err)
	part, err := s.Client.UploadPart(background, &awss3.UploadPartInput{
		Bucket: &s.Name, Key: &key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader([]byte(body)),
	})
	require.NoError(t, err)
	return func() {
		_, err := s.Client.CompleteMultipartUpload(background, &awss3.CompleteMultipartUploadInput{
			Bucket: &s.Name, Key: &key, UploadId: up.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}},
		})
		require.NoError(t, err)
	}
}

// An upload that is under way while an erasure runs brings the records back when it is completed. Until then the erasure
// is not done.
func TestAnErasureWaitsForUploadsThatAreUnderWay(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	complete := s.upload(t, "events/late", event("42", "late")+event("1", "stays"))
	s.upload(t, "elsewhere/x", event("42", "of no entity"))
	b := s.open(t, lake(), connectors.Options{})
	batch := connectors.Batch{subject("a", "user_id", "42"), subject("b", "user_id", "43")}
	j := connectortest.NewJournal()
	erase := func() {
		require.NoError(t, b.Erase(background, connectors.Job{Batch: batch, Journal: j}))
	}
	verify := func() []dsr.Residue {
		left, err := b.Verify(background, connectors.Search{Batch: batch, Keys: j})
		require.NoError(t, err)
		return left
	}
	require.Empty(t, verify(), "of what no erasure met nobody says that it is left")
	s.put(t, "events/a", []byte(event("42", "goes")))
	erase()
	s.upload(t, "events/later", event("42", "begun after the erasure: a new write"))
	waits := &dsr.Exception{Cause: dsr.CauseUpload}
	require.Equal(t, []dsr.Residue{
		{Subject: "a", System: "lake", Entity: "events", Count: 1, Waits: waits}, {Subject: "b", System: "lake", Entity: "events", Count: 1, Waits: waits},
	}, verify())
	require.Len(t, s.uploads(t), 3, "uploads of others are left alone")
	complete()
	left := verify()
	require.Len(t, left, 1)
	require.Nil(t, left[0].Waits, "it is an object now")
	j = connectortest.NewJournal()
	erase()
	require.Equal(t, map[string][]string{"events/a": {""}, "events/late": {event("1", "stays")}}, s.texts(t))
}

func TestOldUploadsAreAbortedWhereTheMapSaysSo(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	s.upload(t, "events/abandoned", event("42", "x"))
	sys := lake()
	sys.Entities[0].Settings["abort_uploads"] = 24 * time.Hour
	now := time.Now()
	b := s.open(t, sys, connectors.Options{Now: func() time.Time { return now }})
	batch := connectors.Batch{subject("a", "user_id", "42")}
	j := connectortest.NewJournal()
	job := connectors.Job{Batch: batch, Journal: j}
	search := connectors.Search{Batch: batch, Keys: j}
	require.NoError(t, b.Erase(background, job))
	left, err := b.Verify(background, search)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, dsr.CauseUpload, left[0].Waits.Cause)
	require.WithinDuration(t, now.Add(24*time.Hour), *left[0].Waits.Ends, time.Minute)

	now = now.Add(25 * time.Hour)
	search.Held.Subjects = connectors.Batch{subject("h", "user_id", "7")}
	left, err = b.Verify(background, search)
	require.NoError(t, err)
	require.Equal(t, &dsr.Exception{Cause: dsr.CauseHold}, left[0].Waits, "it may hold what is held")
	require.NoError(t, b.Erase(background, connectors.Job{Batch: batch, Held: search.Held, Journal: connectortest.NewJournal()}))
	require.Len(t, s.uploads(t), 1)

	search.Held = connectors.Holds{}
	left, err = b.Verify(background, search)
	require.NoError(t, err)
	require.Nil(t, left[0].Waits, "it could be aborted")
	again := erase(t, b, batch)
	require.Empty(t, again.Tallies(), "nobody knows whose it was")
	require.Empty(t, s.uploads(t))
	left, err = b.Verify(background, search)
	require.NoError(t, err)
	require.Empty(t, left)
}

// Tags and metadata of an upload cannot be read either.
func TestUploadsUnderTagsWaitToo(t *testing.T) {
	t.Parallel()
	s := newStore(t, false)
	s.upload(t, "letters/1.pdf", "x")
	b := s.open(t, avatars(), connectors.Options{})
	batch := connectors.Batch{subject("a", "user_id", "42")}
	j := erase(t, b, batch)
	left, err := b.Verify(background, connectors.Search{Batch: batch, Keys: j})
	require.NoError(t, err)
	require.Equal(t, []dsr.Residue{{Subject: "a", System: "files", Entity: "letters", Count: 1, Waits: &dsr.Exception{Cause: dsr.CauseUpload}}}, left)
	found, err := b.Check(background)
	require.NoError(t, err)
	require.Contains(t, codes(found), "warning unfinished-uploads")
}
