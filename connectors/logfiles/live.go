package logfiles

import (
	"regexp"
	"strings"
)

// rotation marks at the end of a name: a number or .old after the extension (app.log.1), or a date before or after it
// (app.log-20260131, app-2026-01-31.log, app-2026-01-31T00-00-00.000.log), or seconds since 1970 (app.log-1769817600). A
// number before the extension is none: worker-2.log is the log of a second worker.
var mark = regexp.MustCompile(`(?:\.\d{1,4}|\.old|[._-](?:(?:19|20)\d\d-?[01]\d-?[0-3]\d(?:[T_.:-]?\d+)*Z?|1\d{9})(?:\.[A-Za-z][A-Za-z0-9]*)?)$`)

// rotated reports whether a file's name, without its folder, shows that it was rotated: nobody writes to it any more.
func rotated(base string) bool {
	for _, ending := range []string{".gz", ".gzip", ".zst", ".zstd"} {
		if strings.HasSuffix(base, ending) {
			return true
		}
	}
	return mark.MatchString(base)
}
