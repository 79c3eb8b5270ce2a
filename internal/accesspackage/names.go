package accesspackage

import (
	"crypto/sha256"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const maxName = 120 // bytes of one element of a path

// safeName turns a name of any origin into one element of a path that every file system takes: no separators, no
// leading dot, no control characters, no device names of Windows.
func safeName(s string) string {
	s = norm.NFC.String(strings.ToValidUTF8(s, "_"))
	s = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, s)
	s = strings.Trim(s, " .")
	if len(s) > maxName {
		ext := path.Ext(s)
		if len(ext) > 16 {
			ext = ""
		}
		cut := maxName - len(ext)
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = strings.TrimRight(s[:cut], " .") + ext
	}
	switch base, _, _ := strings.Cut(strings.ToUpper(s), "."); {
	case s == "":
		return "_"
	case base == "CON", base == "PRN", base == "AUX", base == "NUL",
		len(base) == 4 && (strings.HasPrefix(base, "COM") || strings.HasPrefix(base, "LPT")) && base[3] >= '0' && base[3] <= '9':
		return "_" + s
	}
	return s
}

// safePath turns a relative name of several elements into a path that stays below its folder.
func safePath(s string) string {
	var out []string
	for _, e := range strings.FieldsFunc(s, func(r rune) bool { return r == '/' || r == '\\' }) {
		if e != "." && e != ".." {
			out = append(out, safeName(e))
		}
	}
	if len(out) == 0 {
		return "_"
	}
	return strings.Join(out[max(0, len(out)-8):], "/")
}

// taken hands out paths that differ, on file systems that do not tell cases apart too. It remembers 16 bytes a path.
type taken map[[16]byte]bool

func (t taken) unique(p string) string {
	ext := path.Ext(p)
	stem := strings.TrimSuffix(p, ext)
	for n, candidate := 1, p; ; n, candidate = n+1, stem+" ("+strconv.Itoa(n+1)+")"+ext {
		sum := sha256.Sum256([]byte(strings.ToLower(candidate)))
		if k := [16]byte(sum[:16]); !t[k] {
			t[k] = true
			return candidate
		}
	}
}
