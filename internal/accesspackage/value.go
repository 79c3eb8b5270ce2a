package accesspackage

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lethe-gdpr/lethe/dsr"
)

// appendValue appends a value as JSON. Times are RFC 3339. Bytes that are text are text, others Base64 after
// "base64:". Text that is not UTF-8 has its wrong bytes replaced.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case string:
		return appendText(b, v)
	case []byte:
		if v == nil {
			return append(b, "null"...)
		}
		if utf8.Valid(v) {
			return appendText(b, string(v))
		}
		b = append(b, `"base64:`...)
		b = base64.StdEncoding.AppendEncode(b, v)
		return append(b, '"')
	case bool:
		return strconv.AppendBool(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case int16:
		return strconv.AppendInt(b, int64(v), 10)
	case int32:
		return strconv.AppendInt(b, int64(v), 10)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case uint64:
		return strconv.AppendUint(b, v, 10)
	case float32:
		return appendFloat(b, float64(v), 32)
	case float64:
		return appendFloat(b, v, 64)
	case time.Time:
		b = append(b, '"')
		b = v.AppendFormat(b, time.RFC3339Nano)
		return append(b, '"')
	case dsr.Secret: // the copy is where a value may be shown: it is its subject's own
		return appendText(b, v.Reveal())
	case [16]byte: // how drivers hand over a UUID
		h := hex.EncodeToString(v[:])
		return appendText(b, h[:8]+"-"+h[8:12]+"-"+h[12:16]+"-"+h[16:20]+"-"+h[20:])
	}
	if out, err := json.Marshal(v); err == nil {
		return append(b, out...)
	}
	return appendText(b, fmt.Sprint(v))
}

func appendFloat(b []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return appendText(b, strconv.FormatFloat(f, 'g', -1, bits))
	}
	return strconv.AppendFloat(b, f, 'g', -1, bits)
}

const hexDigits = "0123456789abcdef"

// appendText appends a JSON string. It escapes what JSON demands and nothing else.
func appendText(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		from = i + 1
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

// plain turns a staged cell into the text that a person reads: strings without quotes, null as nothing, everything
// else as JSON. text reports that it was a string.
func plain(cell []byte) (s string, text bool) {
	switch {
	case len(cell) == 0 || string(cell) == "null":
		return "", false
	case cell[0] != '"':
		return string(cell), false
	}
	if body := cell[1 : len(cell)-1]; !hasEscape(body) {
		return string(body), true
	}
	var out string
	if json.Unmarshal(cell, &out) != nil {
		return string(cell), true
	}
	return out, true
}

func hasEscape(b []byte) bool {
	for _, c := range b {
		if c == '\\' {
			return true
		}
	}
	return false
}

// appendCSV appends one cell of RFC 4180. A text that a spreadsheet would take for a formula gets an apostrophe in
// front of it.
func appendCSV(b []byte, s string, text bool) []byte {
	guard := text && s != "" && strings.IndexByte("=+-@\t\r\n", s[0]) >= 0
	if !guard && !strings.ContainsAny(s, "\",\r\n;") && !strings.HasPrefix(s, " ") {
		return append(b, s...)
	}
	b = append(b, '"')
	if guard {
		b = append(b, '\'')
	}
	for i := range len(s) {
		if s[i] == '"' {
			b = append(b, '"')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}
