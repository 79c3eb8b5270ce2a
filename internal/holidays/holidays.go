// Package holidays gives the working days of the states that Lethe's controllers are in, from a maintained library.
package holidays

import (
	"sort"
	"strings"
	"time"

	"github.com/rickar/cal/v2"
	"github.com/rickar/cal/v2/at"
	"github.com/rickar/cal/v2/be"
	"github.com/rickar/cal/v2/bg"
	"github.com/rickar/cal/v2/ch"
	"github.com/rickar/cal/v2/cz"
	"github.com/rickar/cal/v2/de"
	"github.com/rickar/cal/v2/dk"
	"github.com/rickar/cal/v2/es"
	"github.com/rickar/cal/v2/fr"
	"github.com/rickar/cal/v2/gb"
	"github.com/rickar/cal/v2/gr"
	"github.com/rickar/cal/v2/hr"
	"github.com/rickar/cal/v2/ie"
	"github.com/rickar/cal/v2/it"
	"github.com/rickar/cal/v2/lt"
	"github.com/rickar/cal/v2/lv"
	"github.com/rickar/cal/v2/nl"
	"github.com/rickar/cal/v2/no"
	"github.com/rickar/cal/v2/pl"
	"github.com/rickar/cal/v2/ro"
	"github.com/rickar/cal/v2/se"
	"github.com/rickar/cal/v2/si"
	"github.com/rickar/cal/v2/sk"

	"github.com/lethe-gdpr/lethe/dsr"
)

// nationwide lists the public holidays of each state that the library serves. Regional ones are left out: counting
// fewer holidays gives the earlier deadline.
var nationwide = map[string][]*cal.Holiday{
	"AT": at.Holidays, "BE": be.Holidays, "BG": bg.Holidays, "CH": ch.Holidays, "CZ": cz.Holidays, "DE": de.Holidays,
	"DK": dk.Holidays, "ES": es.Holidays, "FR": fr.Holidays, "GB": gb.Holidays, "GR": gr.Holidays, "HR": hr.Holidays,
	"IE": ie.Holidays, "IT": it.Holidays, "LT": lt.Holidays, "LV": lv.Holidays, "NL": nl.Holidays, "NO": no.Holidays,
	"PL": pl.Holidays, "RO": ro.Holidays, "SE": se.Holidays, "SI": si.Holidays, "SK": sk.Holidays,
}

// Countries lists the ISO 3166 codes that [For] serves, sorted.
func Countries() []string {
	var codes []string
	for c := range nationwide {
		codes = append(codes, c)
	}
	sort.Strings(codes)
	return codes
}

// For returns the calendar of a state by its ISO 3166 code; a *dsr.Error with CodeInvalid when it is not served.
func For(country string) (dsr.Calendar, error) {
	days, ok := nationwide[country]
	if !ok {
		return nil, &dsr.Error{
			Code: dsr.CodeInvalid, Field: "controller.country", Msg: "has no calendar of public holidays",
			Hint: "use one of " + strings.Join(Countries(), ", "),
		}
	}
	b := cal.NewBusinessCalendar()
	b.AddHoliday(days...)
	return calendar{b}, nil
}

type calendar struct{ b *cal.BusinessCalendar }

func (c calendar) Workday(day time.Time) bool { return c.b.IsWorkday(day) }
