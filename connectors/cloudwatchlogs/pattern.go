package cloudwatchlogs

import (
	"regexp"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors/records"
)

// groupName is what a log group may be called (API_CreateLogGroup).
var groupName = regexp.MustCompile(`^[.\-_/#A-Za-z0-9]{1,512}$`)

func parseGroup(value string) ([]string, error) {
	if !groupName.MatchString(value) {
		return nil, refused("", "is not the name of a log group", "write its name, not its ARN: /app/web")
	}
	return nil, nil
}

func parseStreams(value string) ([]string, error) {
	g, err := newPattern(value)
	if err != nil {
		return nil, err
	}
	return g.Identifiers(), nil
}

// newPattern reads a pattern of streams that belong to one subject each. A name must have one reading, or somebody's
// stream is deleted as somebody else's: of {user_id}-* nobody knows whether the stream 4-2-x is user 4's. So a
// placeholder shares its segment with fixed text only, and ** stands once.
func newPattern(value string) (*records.Glob, error) {
	g, err := records.ParseGlob(value)
	if err != nil {
		return nil, err
	}
	if len(g.Identifiers()) == 0 {
		return nil, refused("", "names no identifier, so nobody knows whose the streams are", "write app/{user_id}/*")
	}
	deep := 0
	for part := range strings.SplitSeq(value, "/") {
		switch {
		case part == "**":
			deep++
		case strings.Contains(part, "{") && strings.Count(part, "{")+strings.Count(part, "*") > 1:
			return nil, refused("", "has something that varies beside an identifier: whose a stream is could be read in two ways",
				"put a slash between them")
		}
	}
	if deep > 1 {
		return nil, refused("", "has ** twice, so that a name could be read in two ways", "leave ** at one place")
	}
	return g, nil
}
