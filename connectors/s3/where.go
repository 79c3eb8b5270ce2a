package s3

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/records"
	"github.com/lethe-gdpr/lethe/dsr"
)

// where names an object in an error, which ends up in a log and on a page. A key may hold personal data: it is given
// only where the pattern has no placeholder, no identifier of the batch stands in it, and it has no @, no % and no
// number longer than a date. Any other object is named by its version id or its ETag, by which whoever may
// list the bucket finds it.
func (e *entity) where(key string, v version, b connectors.Batch) string {
	if len(e.pattern.placeholders) == 0 && !records.MayName(key) && !names(key, b) {
		if v.id() != nil {
			return fmt.Sprintf("%s (version %s)", key, v.ID)
		}
		return key
	}
	if v.id() != nil {
		return "the object with version " + v.ID
	}
	return "the object with ETag " + strings.Trim(v.ETag, `"`)
}

func names(key string, b connectors.Batch) bool {
	key = strings.ToLower(key)
	for _, s := range b {
		for _, id := range s.Identifiers {
			if v := strings.ToLower(id.Value.Reveal()); v != "" && strings.Contains(key, v) {
				return true
			}
		}
	}
	return false
}

// damaged says which object it is that cannot be read as the map says. It was left as it was.
func (e *entity) damaged(key string, v version, b connectors.Batch, err error) error {
	var de *dsr.Error
	if !connectors.IsPermanent(err) || !errors.As(err, &de) {
		return err
	}
	return connectors.Permanent(de.Code, e.where(key, v, b)+" "+de.Msg, de.Hint, de.Err)
}
