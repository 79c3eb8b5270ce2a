package memory

import (
	"errors"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// minima notes the rows whose statutory minimum has not ended, but for those of entities that say keep. With effect an
// erasure leaves them, and they own what is theirs; a person's row stays and owns nothing.
func (c *closure) minima(effect bool) error {
	today := c.db.sys.Today(c.db.now())
	for _, i := range c.items {
		if i.e.Keep != nil {
			continue
		}
		var err error
		if i.young, i.ends, err = c.minimum(i, today); err != nil {
			return err
		}
		i.stays = i.young && effect
		i.held = i.held || i.stays && !i.e.Subject
	}
	return nil
}

// minimum reports whether a statutory minimum of a row has not ended on a day, and when it does; zero where nobody knows.
func (c *closure) minimum(i *item, today time.Time) (young bool, ends time.Time, err error) {
	known := true
	for _, b := range i.e.Minima(today) {
		if !meets(i.row, b.Rule.When) {
			continue
		}
		start, begun, err := c.started(i, b.Rule, today.Location())
		if err != nil && !errors.Is(err, errUnread) {
			return false, ends, err
		}
		if begun && err == nil && start.Before(b.Before) {
			continue
		}
		young = true
		if known = known && begun && err == nil; known {
			if end := b.Rule.Class.DeletableOn(start.In(today.Location())); end.After(ends) {
				ends = end
			}
		}
	}
	if !known {
		ends = time.Time{}
	}
	return young, ends, nil
}

// underMinimum are the rows of one tenant whose statutory minimum has not ended, by entity and key.
func (db *DB) underMinimum(tenant string) (map[string]bool, error) {
	c, err := db.load(nil, nil, tenant)
	if err != nil {
		return nil, err
	}
	if err := c.minima(true); err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, i := range c.items {
		if i.stays {
			out[i.e.Name+string(i.key)] = true
		}
	}
	return out, nil
}

// unfinished are the rows to which an erasure would do more if every statutory minimum had ended.
func unfinished(now, free *closure) map[*item]bool {
	out := map[*item]bool{}
	for n, then := range free.items { // both are in the same order
		if i := now.items[n]; (i.action == "" || i.action == dsr.Redact) && then.action != "" && then.action != i.action {
			out[i] = true
		}
	}
	return out
}

// day is when a row that waits can go. One that waits for others is taken to wait for the last of its subject's rows that
// are under a minimum.
func day(i *item, now *closure) time.Time {
	if i.young {
		return i.ends
	}
	days := map[time.Time]int64{}
	for _, other := range now.items {
		if other.young && other.touched {
			days[other.ends]++
		}
	}
	if last := connectors.LastDay(days); last != nil {
		return *last
	}
	return time.Time{}
}
