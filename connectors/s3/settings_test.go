package s3_test

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

func codes(fs []connectors.Finding) []string {
	var out []string
	for _, f := range fs {
		out = append(out, string(f.Severity)+" "+f.Code)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestCheckTellsWhatKeepsAndCopiesObjects(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	s.put(t, "events/a", []byte(event("1", "x")))
	s.begin(t, "events/half")
	f := newFront(t, s)
	f.answers(map[string]string{
		"versioning":        `<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete></VersioningConfiguration>`,
		"object-lock":       `<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>30</Days></DefaultRetention></Rule></ObjectLockConfiguration>`,
		"replication":       `<ReplicationConfiguration><Role>r</Role><Rule><Status>Enabled</Status><Destination><Bucket>arn:aws:s3:::example-copy</Bucket></Destination></Rule></ReplicationConfiguration>`,
		"lifecycle":         `<LifecycleConfiguration><Rule><ID>cold</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter><Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition></Rule></LifecycleConfiguration>`,
		"notification":      `<NotificationConfiguration><QueueConfiguration><Id>q</Id><Queue>arn:aws:sqs:eu-north-1:123456789012:orders</Queue><Event>s3:ObjectCreated:*</Event></QueueConfiguration><CloudFunctionConfiguration><Id>l</Id><CloudFunction>arn:aws:lambda:eu-north-1:210987654321:function:resize</CloudFunction><Event>s3:ObjectCreated:*</Event></CloudFunctionConfiguration><EventBridgeConfiguration/></NotificationConfiguration>`,
		"logging":           `<BucketLoggingStatus><LoggingEnabled><TargetBucket>example-logs</TargetBucket><TargetPrefix>x</TargetPrefix></LoggingEnabled></BucketLoggingStatus>`,
		"ownershipControls": `<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>`,
	})
	sys := lake()
	sys.Settings = f.settings(s)
	b := s.open(t, sys, connectors.Options{})
	found, err := b.Check(background)
	require.NoError(t, err)
	for _, one := range found {
		require.NotRegexp(t, "[0-9]{12}", one.Message, "of an account nothing is to be read")
	}
	located, err := b.Locate(background, connectors.Query{Batch: connectors.Batch{subject("a", "user_id", "1")}})
	require.NoError(t, err)
	require.Equal(t, []dsr.Copy{
		{System: "lake", What: "replication of the bucket " + s.Name, Recipient: "S3 bucket example-copy"},
		{System: "lake", What: "event notification of the bucket " + s.Name, Recipient: "Lambda function resize"},
		{System: "lake", What: "event notification of the bucket " + s.Name, Recipient: "SQS queue orders"},
		{System: "lake", What: "event notification of the bucket " + s.Name, Recipient: "Amazon EventBridge"},
	}, located.Copies)
	require.Equal(t, []string{
		"error mfa-delete", "warning access-logging", "warning event-notifications", "warning lifecycle-archives", "warning object-lock",
		"warning object-ownership", "warning replication", "warning unfinished-uploads",
	}, codes(found))
}

// Where only the root account deletes versions all of them wait, and nothing is changed.
func TestVersionsUnderMFADeleteWait(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	s.put(t, "events/a", []byte(event("42", "older")))
	s.put(t, "events/a", []byte(event("42", "x")+event("1", "y")))
	s.put(t, "avatars/42/a", []byte("x"))
	s.delete(t, "avatars/42/a")
	f := newFront(t, s)
	f.answers(map[string]string{"versioning": `<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete></VersioningConfiguration>`})
	sys := lake()
	sys.Settings = f.settings(s)
	sys.Entities = append([]connectors.Entity{avatars().Entities[0]}, sys.Entities...)
	b := s.open(t, sys, connectors.Options{})
	before, batch := s.places(t), connectors.Batch{subject("a", "user_id", "42")}
	found, err := b.Locate(background, connectors.Query{Batch: batch})
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"a avatars wait": 2, "a events wait": 2}, counts(found.Counts))
	waits := &dsr.Exception{Cause: dsr.CauseMFADelete}
	require.Equal(t, waits, found.Counts[0].Exception)
	require.Empty(t, erase(t, b, batch).Tallies())
	left := verify(t, b, batch)
	require.NotEmpty(t, left)
	for _, r := range left {
		require.Equal(t, waits, r.Waits)
	}
	require.Equal(t, map[string]int64{" avatars blocked": 1}, sums(sweep(t, b, connectors.SweepJob{Entity: "avatars", Rule: byAge(), Cut: future}).Tallies()))
	require.Equal(t, before, s.places(t))
}

// A lock on a version that is no longer current, and a legal hold on one: the record in it waits, and what can go goes.
func TestLockedNoncurrentRecordsWait(t *testing.T) {
	t.Parallel()
	s := newStore(t, true, locked)
	until := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	s.put(t, "events/a", []byte(event("42", "older")), func(in *awss3.PutObjectInput) {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = types.ObjectLockModeCompliance, &until
	})
	s.put(t, "events/a", []byte(event("42", "newer")+event("1", "y")))
	s.put(t, "events/b", []byte(event("42", "x")), func(in *awss3.PutObjectInput) { in.ObjectLockLegalHoldStatus = types.ObjectLockLegalHoldStatusOn })
	b := s.open(t, lake(), connectors.Options{})
	batch := connectors.Batch{subject("a", "user_id", "42")}
	found, err := b.Locate(background, connectors.Query{Batch: batch})
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"a events delete": 1, "a events wait": 2}, counts(found.Counts))
	ends := map[dsr.Cause]*time.Time{}
	for _, c := range found.Counts {
		if c.Method == dsr.Wait {
			ends[c.Exception.Cause] = c.Exception.Ends
		}
	}
	require.Equal(t, map[dsr.Cause]*time.Time{dsr.CauseObjectLock: &until, dsr.CauseLegalHold: nil}, ends)
	require.Equal(t, map[string]int64{"a events delete": 1}, sums(erase(t, b, batch).Tallies()))
	require.Equal(t, map[string][]string{"events/a": {event("1", "y"), event("42", "older")}, "events/b": {event("42", "x")}}, s.texts(t))
	left := verify(t, b, batch)
	require.Len(t, left, 2)
	for _, r := range left {
		require.Equal(t, ends[r.Waits.Cause], r.Waits.Ends)
		require.Equal(t, int64(1), r.Count)
	}
}

// What belongs to two entities would go by the rule of one while a hold on the other covers it.
func TestCheckFindsKeysOfTwoEntities(t *testing.T) {
	t.Parallel()
	s := newStore(t, true)
	s.put(t, "events/special/a", []byte(event("1", "x")))
	sys := lake()
	special := sys.Entities[0]
	special.Name, special.Settings = "special", map[string]any{"objects": "events/special/**", "format": "jsonl"}
	apart := special
	apart.Name, apart.Settings = "apart", map[string]any{"objects": "apart/**", "format": "jsonl"}
	sys.Entities = append(sys.Entities, special, apart)
	found, err := s.open(t, sys, connectors.Options{}).Check(background)
	require.NoError(t, err)
	found = slices.DeleteFunc(found, func(f connectors.Finding) bool { return f.Code != connectors.FindTwoEntities })
	require.Len(t, found, 1)
	require.Equal(t, "special", found[0].Entity)
	require.Equal(t, connectors.Error, found[0].Severity)
	require.Contains(t, found[0].Message, "events")
}

func TestCheckSaysWhatTheServerDoesNotTell(t *testing.T) {
	t.Parallel()
	s := newStore(t, false)
	s.put(t, "events/a", []byte(event("1", "x")))
	s.put(t, "other/a", []byte("x"))
	sys := lake()
	sys.Entities = append(sys.Entities, connectors.Entity{Name: "none", Erase: dsr.Delete, Settings: map[string]any{"objects": "none/{user_id}/**"}})
	found, err := s.open(t, sys, connectors.Options{}).Check(background)
	require.NoError(t, err)
	require.Equal(t, []string{"warning no-objects", "warning unknown-setting", "warning unmapped-objects"}, codes(found))

	gone := lake()
	gone.Settings = s.settings()
	gone.Settings["bucket"] = "no-such-bucket"
	_, err = s.open(t, gone, connectors.Options{}).Check(background)
	require.True(t, connectors.IsPermanent(err))
	wrong := lake()
	wrong.Settings = s.settings()
	wrong.Settings["secret_key"] = "wrong"
	_, err = s.open(t, wrong, connectors.Options{}).Locate(background, connectors.Query{Batch: connectors.Batch{subject("a", "user_id", "1")}})
	require.True(t, connectors.IsPermanent(err))
}

// expiring is a rule that leaves the deleting to the bucket.
func expiring() connectors.Rule {
	r := connectors.Rule{}
	r.Name, r.Action = "lake.events.short", retention.Expire
	r.Class = retention.Class{Period: retention.Period{Months: 1, Days: 3}, Start: retention.Collection}
	r.Start.Kind = retention.StartObject
	return r
}

func TestLifecycleRulesAreSetBesideThoseOfOthers(t *testing.T) {
	t.Parallel()
	s := newStore(t, false)
	s.put(t, "events/a", []byte(event("42", "x")))
	f := newFront(t, s)
	var mu sync.Mutex
	config := `<LifecycleConfiguration><Rule><ID>theirs</ID><Status>Enabled</Status><Filter><Prefix>tmp/</Prefix></Filter><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>`
	puts := 0
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !r.URL.Query().Has("lifecycle") {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodPut {
			b, _ := io.ReadAll(r.Body)
			config, puts = string(b), puts+1
			return true
		}
		_, _ = io.WriteString(w, config)
		return true
	}
	sys := lake()
	sys.Settings = f.settings(s)
	sys.Entities[0].Rules = []connectors.Rule{expiring()}
	b := s.open(t, sys, connectors.Options{})
	found, err := b.Check(background)
	require.NoError(t, err)
	require.Contains(t, codes(found), "warning lifecycle-differs")
	cut := connectors.Cut{Before: time.Now().Add(time.Hour), Zone: time.UTC}
	due, err := b.Due(background, connectors.DueQuery{Entity: "events", Rule: expiring(), Cuts: []connectors.Cut{cut}})
	require.NoError(t, err)
	require.Equal(t, int64(1), due[0].Rows)

	sweep := func(h connectors.Holds) *connectortest.Journal {
		j := connectortest.NewJournal()
		_, err := b.Sweep(background, connectors.SweepJob{Entity: "events", Rule: expiring(), Cut: cut, Held: h, Journal: j})
		require.NoError(t, err)
		return j
	}
	sweep(connectors.Holds{})
	sweep(connectors.Holds{})
	require.Equal(t, 1, puts, "what is as it should be is not set again")
	for _, want := range []string{"<ID>theirs</ID>", "<ID>lethe-lake.events.short</ID>", "<Prefix>events/</Prefix>", "<Days>34</Days>", "<Days>1</Days>"} {
		require.Contains(t, config, want)
	}
	require.NotContains(t, config, "Disabled")
	found, err = b.Check(background)
	require.NoError(t, err)
	require.NotContains(t, codes(found), "warning lifecycle-differs")

	// a bucket knows of no holds: while one reaches the entity its rule is off
	j := sweep(connectors.Holds{Subjects: connectors.Batch{subject("h", "user_id", "42")}})
	require.Contains(t, config, "Disabled")
	require.Equal(t, map[string]int64{" events held": 1}, sums(j.Tallies()))
	sweep(connectors.Holds{Subjects: connectors.Batch{subject("h", "user_id", "somebody who is not in it")}})
	require.NotContains(t, config, "Disabled")
	require.Len(t, s.places(t), 1, "the bucket does the deleting")

	// nor need a sweep run for that
	rule := expiring()
	heed := func(r *connectors.Rule, user string, search time.Duration) connectors.Heeded {
		out, err := b.Heed(background, connectors.HeedJob{
			Entity: "events", Rule: r, Held: connectors.Holds{Subjects: connectors.Batch{subject("h", "user_id", user)}}, Search: search,
		})
		require.NoError(t, err)
		return out
	}
	require.Equal(t, connectors.Heeded{}, heed(&rule, "somebody who is not in it", time.Minute))
	require.Equal(t, connectors.Heeded{Stay: []string{`the lifecycle rule "lethe-lake.events.short"`}}, heed(nil, "42", time.Minute), "without a rule nothing is changed")
	require.NotContains(t, config, "Disabled")
	require.Equal(t, connectors.Heeded{Lifted: true}, heed(&rule, "42", time.Minute))
	require.Contains(t, config, "Disabled")
	require.Contains(t, config, "<ID>theirs</ID>")
	require.Equal(t, connectors.Heeded{}, heed(&rule, "42", time.Minute), "twice is once")
	sweep(connectors.Holds{})
	require.NotContains(t, config, "Disabled", "lifted")
	require.Equal(t, connectors.Heeded{Lifted: true}, heed(&rule, "somebody who is not in it", 0), "what is not searched may be held")
	sweep(connectors.Holds{})

	s.put(t, "events/damaged", []byte("no JSON")) // it may be anybody's
	j = sweep(connectors.Holds{Subjects: connectors.Batch{subject("h", "user_id", "somebody who is not in it")}})
	require.Equal(t, map[string]int64{" events held": 1}, sums(j.Tallies()))
	require.Contains(t, config, "Disabled")
	mu.Lock()
	config = strings.Replace(config, "<Prefix>tmp/</Prefix>", "<Prefix>events/tmp/</Prefix>", 1)
	mu.Unlock()
	require.Equal(t, connectors.Heeded{Stay: []string{`the lifecycle rule "theirs"`}}, heed(&rule, "42", time.Minute))
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html: an archived version says so in its class, or in
// x-amz-archive-status where the class is Intelligent-Tiering; x-amz-restore tells of a restored copy.
func TestArchivedRecordsWait(t *testing.T) {
	t.Parallel()
	const restored = `ongoing-request="false", expiry-date="Fri, 21 Dec 2037 00:00:00 GMT"`
	for name, c := range map[string]struct {
		class, archive, restore string
		waits                   bool
	}{
		"flexible":                    {"GLACIER", "", "", true},
		"deep":                        {"DEEP_ARCHIVE", "", "", true},
		"instant":                     {"GLACIER_IR", "", "", false},
		"intelligent":                 {"INTELLIGENT_TIERING", "", "", false},
		"intelligent, archived":       {"INTELLIGENT_TIERING", "ARCHIVE_ACCESS", "", true},
		"intelligent, deep":           {"INTELLIGENT_TIERING", "DEEP_ARCHIVE_ACCESS", "", true},
		"being restored":              {"GLACIER", "", `ongoing-request="true"`, true},
		"restored":                    {"GLACIER", "", restored, false},
		"intelligent, being restored": {"INTELLIGENT_TIERING", "ARCHIVE_ACCESS", `ongoing-request="true"`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, true)
			s.put(t, "events/a", []byte(event("42", "x")))
			s.put(t, "avatars/42/a", []byte("x"))
			f := newFront(t, s)
			f.after = func(r *http.Response) error {
				switch {
				case r.Request.URL.Query().Has("versions"):
					b, err := io.ReadAll(r.Body)
					if err != nil {
						return err
					}
					b = bytes.ReplaceAll(b, []byte("STANDARD"), []byte(c.class))
					r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
					r.Header.Del("Content-Length")
				case r.Request.Method == http.MethodHead:
					for name, v := range map[string]string{"X-Amz-Storage-Class": c.class, "X-Amz-Archive-Status": c.archive, "X-Amz-Restore": c.restore} {
						if v != "" {
							r.Header.Set(name, v)
						}
					}
				}
				return nil
			}
			sys := lake()
			sys.Settings = f.settings(s)
			sys.Entities = append([]connectors.Entity{avatars().Entities[0]}, sys.Entities...)
			b := s.open(t, sys, connectors.Options{})
			batch := connectors.Batch{subject("a", "user_id", "42")}
			found, err := b.Locate(background, connectors.Query{Batch: batch})
			require.NoError(t, err)
			if !c.waits {
				require.Equal(t, map[string]int64{"a avatars delete": 1, "a events delete": 1}, counts(found.Counts))
				require.Len(t, erase(t, b, batch).Tallies(), 2)
				require.Empty(t, verify(t, b, batch))
				return
			}
			require.Equal(t, map[string]int64{"a avatars delete": 1, "a events wait": 1}, counts(found.Counts), "a whole object need not be read to go")
			j := erase(t, b, batch)
			require.Equal(t, map[string]int64{"a avatars delete": 1}, sums(j.Tallies()))
			left := verify(t, b, batch)
			require.Len(t, left, 1)
			require.Equal(t, &dsr.Exception{Cause: dsr.CauseArchived}, left[0].Waits)
			plain := lake()
			plain.Settings = s.settings()
			require.Nil(t, verify(t, s.open(t, plain, connectors.Options{}), batch)[0].Waits, "it was restored")
		})
	}
}

func TestDescribeNamesWhatIsThere(t *testing.T) {
	t.Parallel()
	s := newStore(t, false)
	for _, key := range []string{"events/a", "other/a", "loose.txt", "anna@example.com/a"} {
		s.put(t, key, []byte("x"))
	}
	schema, err := s.open(t, lake(), connectors.Options{}).Describe(background)
	require.NoError(t, err)
	var names []string
	for _, e := range schema.Entities {
		names = append(names, e.Name)
	}
	require.Equal(t, []string{"*/", "/", "events", "other/"}, names)
}
