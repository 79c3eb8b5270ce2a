package api

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/lethe-gdpr/lethe/dsr"
)

const (
	idempotencyLease = time.Minute    // how long a call that never ends blocks its key
	idempotencyKept  = 24 * time.Hour // how long an answer is given again
)

// keptAnswer is what of an answer is remembered.
type keptAnswer struct {
	Status   int             `json:"status"`
	Location string          `json:"location,omitempty"`
	ETag     string          `json:"etag,omitempty"`
	Body     json.RawMessage `json:"body"`
}

// shownOnce names the members of answers that are secrets: they are given once and not kept.
func shownOnce(operation string) string {
	switch operation {
	case "createApiKey":
		return "token"
	case "createPackageLink":
		return "url"
	}
	return ""
}

// replay answers a repeated creating call as the first was answered. Only what succeeded is kept: a call that was
// refused may be corrected and sent again under its key.
func (s *server) replay(g *gin.Context) {
	r := s.contract.of(g)
	given := g.GetHeader("Idempotency-Key")
	if !r.idempotent || given == "" {
		g.Next()
		return
	}
	ctx := g.Request.Context()
	body, _ := g.Get(bodyKey)
	raw, _ := body.([]byte)
	key, fingerprint := s.fingerprints(ctx, r.permission.Operation, g.Request.URL.Path, given, raw)
	now := s.Now()
	claimed, held, answer, err := s.Idempotency.ClaimIdempotency(ctx, key, fingerprint, now, now.Add(idempotencyLease))
	switch {
	case err != nil:
		s.fail(g, err)
	case claimed:
		s.record(g, r.permission.Operation, key)
	case held != fingerprint:
		s.fail(g, &dsr.Error{
			Code: CodeIdempotencyDifferent, Field: "Idempotency-Key", Msg: "was used for a call with another body",
			Hint: "use a new key for a new call",
		})
	case answer == nil:
		s.fail(g, &dsr.Error{
			Code: CodeIdempotencyInFlight, Field: "Idempotency-Key", Msg: "its first call has not ended",
			Hint: "wait as long as Retry-After says, and send it again",
		})
	default:
		s.repeat(g, answer)
	}
}

// fingerprints are keyed hashes, because the body of a request holds identifiers, and a bare hash of something that can
// be guessed is as good as the thing. Two API keys do not share idempotency keys.
func (s *server) fingerprints(ctx context.Context, operation, path, given string, body []byte) (key, fingerprint string) {
	c := callerOf(ctx)
	mac := func(parts ...string) string {
		h := hmac.New(sha256.New, c.Fingerprint())
		for _, p := range parts {
			h.Write([]byte(p))
			h.Write([]byte{0})
		}
		return hex.EncodeToString(h.Sum(nil))
	}
	return mac("key", c.Key, operation, path, given), mac("body", string(body))
}

func (s *server) record(g *gin.Context, operation, key string) {
	// The caller may go away; what was begun has to be remembered or freed all the same.
	ctx := context.WithoutCancel(g.Request.Context())
	w := &recorder{ResponseWriter: g.Writer}
	g.Writer = w
	done := false
	defer func() {
		if !done {
			if err := s.Idempotency.DropIdempotency(ctx, key); err != nil {
				s.Logger.WarnContext(ctx, "idempotency key not freed", "error", err)
			}
		}
	}()
	g.Next()
	if w.Status() >= http.StatusMultipleChoices || w.Status() < http.StatusOK {
		return
	}
	answer, err := json.Marshal(keptAnswer{
		Status: w.Status(), Location: keptLocation(operation, w.Header().Get("Location")), ETag: w.Header().Get("ETag"),
		Body: without(w.body.Bytes(), shownOnce(operation)),
	})
	if err == nil {
		err = s.Idempotency.FinishIdempotency(ctx, key, answer, s.Now().Add(idempotencyKept))
	}
	if err != nil {
		// The answer is out already. The key stays claimed until its lease ends, which is better than doing it twice.
		s.Logger.WarnContext(ctx, "answer not kept for repetition", "error", err)
	}
	done = true
}

// keptLocation: the location of a package link is the link.
func keptLocation(operation, location string) string {
	if operation == "createPackageLink" {
		return ""
	}
	return location
}

func without(body []byte, member string) []byte {
	if member == "" {
		return body
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) != nil {
		return []byte("null")
	}
	delete(object, member)
	out, err := json.Marshal(object)
	if err != nil {
		return []byte("null")
	}
	return out
}

func (s *server) repeat(g *gin.Context, answer []byte) {
	var kept keptAnswer
	if err := json.Unmarshal(answer, &kept); err != nil {
		s.fail(g, err)
		return
	}
	if kept.Location != "" {
		g.Header("Location", kept.Location)
	}
	if kept.ETag != "" {
		g.Header("ETag", kept.ETag)
	}
	g.Header("Idempotency-Replayed", "true")
	g.Data(kept.Status, "application/json", kept.Body)
	g.Abort()
}

type recorder struct {
	gin.ResponseWriter
	body bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error) {
	r.body.Write(b)
	return r.ResponseWriter.Write(b)
}

func (r *recorder) WriteString(s string) (int, error) {
	r.body.WriteString(s)
	return r.ResponseWriter.WriteString(s)
}
