package engine

import (
	"strconv"
	"strings"

	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/retention"
)

// growthRuns is how many of the last Sweeps a cap on growth compares with.
const growthRuns = 5

// overCap says which cap a count is above, or nothing. due is what a Sweep would delete or change: what is held or
// blocked has no blast radius. A share of a small table and growth by few rows say nothing.
func overCap(r *datamap.Rule, slack, due, total int64, done []*retention.Sweep) string {
	stopped := "Stopped: " + thousands(due) + " due"
	if limit := r.Cap.Rows; limit > 0 && due > limit {
		return stopped + ", cap " + thousands(limit) + ". Nothing deleted."
	}
	if limit := r.Cap.Share; limit > 0 && total >= smallTable && float64(due) > limit*float64(total) {
		return stopped + ", " + percent(float64(due)/float64(total)) + " of " + thousands(total) + ", cap " + percent(limit) +
			". Nothing deleted."
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
