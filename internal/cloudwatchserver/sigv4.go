package cloudwatchserver

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// authorise checks a request's Signature Version 4 (IAM User Guide, "Signature Version 4 signing process for API
// requests"): that it is well-formed and, where the server has a key, that it is that key's.
func (s *Server) authorise(r *http.Request, body []byte) error {
	incomplete := &fault{"IncompleteSignatureException", "Authorization header is missing or is not of Signature Version 4"}
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return incomplete
	}
	part := map[string]string{}
	for p := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		part[k] = v
	}
	scope := strings.Split(part["Credential"], "/") // key, day, region, service, aws4_request
	signed := strings.Split(part["SignedHeaders"], ";")
	stamp := r.Header.Get("X-Amz-Date")
	if len(scope) != 5 || scope[3] != "logs" || scope[4] != "aws4_request" || len(part["Signature"]) != 64 ||
		!slices.Contains(signed, "host") || !slices.Contains(signed, "x-amz-date") {
		return incomplete
	}
	if at, err := time.Parse("20060102T150405Z", stamp); err != nil || at.Format("20060102") != scope[1] {
		return incomplete
	}
	if s.AccessKey == "" && s.Secret == "" {
		return nil
	}
	if scope[0] != s.AccessKey {
		return &fault{"UnrecognizedClientException", "The security token included in the request is invalid."}
	}
	canonical := strings.Join([]string{
		r.Method, r.URL.EscapedPath(), r.URL.Query().Encode(), canonicalHeaders(r, signed), part["SignedHeaders"], digest(body),
	}, "\n")
	text := strings.Join([]string{"AWS4-HMAC-SHA256", stamp, strings.Join(scope[1:], "/"), digest([]byte(canonical))}, "\n")
	key := []byte("AWS4" + s.Secret)
	for _, p := range scope[1:] {
		key = sum(key, p)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(sum(key, text))), []byte(part["Signature"])) {
		return &fault{"InvalidSignatureException", "The request signature we calculated does not match the signature you provided."}
	}
	return nil
}

// canonicalHeaders ends every header with a line break, the last one too.
func canonicalHeaders(r *http.Request, signed []string) string {
	var sb strings.Builder
	for _, name := range signed {
		v := strings.Join(r.Header.Values(name), ",")
		switch name { // net/http takes these out of the header
		case "host":
			v = r.Host
		case "content-length":
			v = strconv.FormatInt(r.ContentLength, 10)
		}
		sb.WriteString(name + ":" + strings.Join(strings.Fields(v), " ") + "\n")
	}
	return sb.String()
}

func digest(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
