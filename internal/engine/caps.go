package engine

import (
	"slices"
	"strconv"
	"strings"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/retention"
)

// growthRuns is how many of the last Sweeps a cap on growth compares with.
const growthRuns = 5

// overCap says which cap a count is above, or nothing. What a Sweep would delete or change counts: what is held or
// blocked has no blast radius. A share of a small table and growth by few rows say nothing. Where something could not be
// read the Entity may be no small one: its share then is taken of as many rows as a small one can have, at least.
func overCap(r *datamap.Rule, slack int64, d connectors.Due, done []*retention.Sweep) string {
	due, total := free(d), d.Total
	stopped := "Stopped: " + thousands(due) + " due"
	if limit := r.Cap.Rows; limit > 0 && due > limit {
		return stopped + ", cap " + thousands(limit) + ". Nothing deleted."
	}
	least := total
	if unread(d) > 0 {
		least = max(total, smallTable)
	}
	if limit := r.Cap.Share; limit > 0 && least >= smallTable && float64(due) > limit*float64(least) {
		of := thousands(least)
		if least > total {
			of += " (" + thousands(unread(d)) + " could not be read)"
		}
		return stopped + ", " + percent(float64(due)/float64(least)) + " of " + of + ", cap " + percent(limit) + ". Nothing deleted."
	}
	mean := meanDue(done)
	limit := r.Cap.Growth
	switch {
	case limit == 0 || len(done) == 0 || due <= slack || float64(due) <= limit*mean:
		return ""
	case mean == 0:
		return stopped + ", and nothing in the last " + strconv.Itoa(len(done)) + " sweeps, cap " + times(limit) + ". Nothing deleted."
	}
	return stopped + ", " + times(float64(due)/mean) + " the mean of the last " + strconv.Itoa(len(done)) + " sweeps, cap " +
		times(limit) + ". Nothing deleted."
}

// mostOf is how many rows a Sweep may take that was counted: what its caps let go, or was approved; 0 where nothing caps
// it. What could not be read when it was counted is part of no count, and may be readable by now.
func mostOf(r *datamap.Rule, slack int64, s *retention.Sweep, done []*retention.Sweep) int64 {
	var caps []int64
	if limit := r.Cap.Rows; limit > 0 {
		caps = append(caps, limit)
	}
	if limit := r.Cap.Share; limit > 0 {
		caps = append(caps, int64(limit*float64(max(s.Total, smallTable))))
	}
	if limit := r.Cap.Growth; limit > 0 && len(done) > 0 {
		caps = append(caps, max(slack, int64(limit*meanDue(done))))
	}
	if len(caps) == 0 {
		return 0
	}
	return max(slices.Min(caps), *s.Due, s.Approved, 1)
}

// unread is how many contents could not be read for a count.
func unread(d connectors.Due) (n int64) {
	for _, of := range d.Unreadable {
		n += of
	}
	return n
}

// meanDue is the mean of what earlier Sweeps found due.
func meanDue(done []*retention.Sweep) float64 {
	if len(done) == 0 {
		return 0
	}
	var sum int64
	for _, s := range done {
		if s.Due != nil {
			sum += *s.Due
		}
	}
	return float64(sum) / float64(len(done))
}

// thousands writes a count as people read it: 41,200.
func thousands(n int64) string {
	s := count(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func percent(share float64) string { return short(100*share) + "%" }

func times(factor float64) string { return short(factor) + " times" }

// short writes a number with at most one decimal.
func short(f float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0")
}
