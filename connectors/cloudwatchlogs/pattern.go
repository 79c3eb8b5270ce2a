package cloudwatchlogs

import (
	"regexp"

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
// stream is deleted as somebody else's.
func newPattern(value string) (*records.Glob, error) {
	g, err := records.ParseGlob(value)
	if err != nil {
		return nil, err
	}
	if len(g.Identifiers()) == 0 {
		return nil, refused("", "names no identifier, so nobody knows whose the streams are", "write app/{user_id}/*")
	}
	return g, g.OneReading()
}
