package main

import (
	"fmt"
	"time"

	"github.com/lethe-gdpr/lethe/client"
	"github.com/lethe-gdpr/lethe/dsr"
)

// stays is why rows of a plan stay, or cannot go yet, for a person who is to approve it.
type stays struct {
	article, statute string
	cause            dsr.Cause
	ends             *time.Time
	others           int64 // records of other people that go with them
}

func staysOf(l dsr.PlanLine) stays {
	s := stays{others: l.Others}
	if x := l.Exception; x != nil {
		s.article, s.statute, s.cause, s.ends = x.Article, x.Statute, x.Cause, x.Ends
	}
	return s
}

func staysOfClient(l client.PlanLine) stays {
	s := stays{}
	if l.Others != nil {
		s.others = *l.Others
	}
	if x := l.Exception; x != nil {
		s.article, s.statute, s.ends = x.Article, given(x.Statute), x.Ends
		if x.Cause != nil {
			s.cause = dsr.Cause(*x.Cause)
		}
	}
	return s
}

// causes are what the causes mean, in words.
var causes = map[dsr.Cause]string{
	dsr.CauseRetention:  "cannot be deleted singly; its store's own retention removes it",
	dsr.CauseObjectLock: "locked by Object Lock; erased when the lock ends",
	dsr.CauseLegalHold:  "under a legal hold of Object Lock; erased when somebody lifts it",
	dsr.CauseArchived:   "in an archive tier; restore it, and it is erased then",
	dsr.CauseLiveFile:   "in a file that is still written to; erased after its rotation",
	dsr.CauseUpload:     "perhaps in an upload that is not finished; searched when it is, and aborted when the map says so",
	dsr.CauseMFADelete:  "in a bucket with MFA delete; erased when that is off, or gone when the root account deletes it",
	dsr.CauseHold:       "under a hold; erased when it is lifted",
	dsr.CauseMinimum:    "must be kept by law, or belongs to what must; erased when that time has ended",
}

func (s stays) String() string {
	text := causes[s.cause]
	if text == "" && s.article != "" {
		text = "Art. " + s.article
		if s.statute != "" {
			text += ", " + s.statute
		}
	}
	if s.ends != nil {
		text += ", until " + s.ends.Format(time.DateOnly)
	}
	if s.others > 0 {
		if text != "" {
			text += "; "
		}
		text += fmt.Sprintf("%d records of other people go with them", s.others)
	}
	return text
}
