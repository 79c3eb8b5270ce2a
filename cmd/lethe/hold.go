package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	openapi_types "github.com/oapi-codegen/runtime/types"
	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/client"
)

func newHoldCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "hold",
		Short: "Place, review and lift legal holds and restrictions",
		Long: `Place, review and lift holds: a legal hold (Art. 17(3)(e)), or a restriction (Art. 18). Nothing that a hold covers is
deleted or changed, by no sweep and no erasure request; what was left goes on by itself when the hold is lifted.`,
		Example: `  lethe hold place --email - --reference CASE-17/4 --review 2027-01-31 < address.txt
  lethe hold place --system shop --entity orders --when status=disputed --reference CASE-17/4 --review 2027-01-31
  lethe hold list --overdue
  lethe hold lift hold_01ARZ3NDEKTSV4RRFFQ69G5FAV`,
	}
	group(c)
	serverFlags(c)
	c.AddCommand(newHoldPlaceCommand(), newHoldListCommand(), newHoldFindCommand(), newHoldReviewCommand(), newHoldLiftCommand())
	return c
}

func newHoldPlaceCommand() *cobra.Command {
	var (
		restriction                                        bool
		tenant, request, system, entity, reference, review string
		when, null, notNull                                []string
	)
	c := &cobra.Command{
		Use:   "place",
		Short: "Keep a person's data, or an entity's rows, from being deleted",
		Args:  exactArgs(0),
	}
	identifiers := identifierFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		body := client.NewHold{
			Kind: client.HoldKindLegal, Tenant: optional(tenant), Request: optional(request), System: optional(system),
			Entity: optional(entity), Reference: optional(reference),
		}
		if restriction {
			body.Kind = client.HoldKindRestriction
		}
		if request == "" && entity == "" {
			ids, err := identifiers(c.InOrStdin())
			if err != nil {
				return err
			}
			body.Identifiers = &ids
		}
		var err error
		if body.When, err = conditions(when, null, notNull); err != nil {
			return err
		}
		if body.Review, err = day("review", review); err != nil {
			return err
		}
		api, err := connect(c)
		if err != nil {
			return err
		}
		h, err := client.Read[client.Hold](api.PlaceHold(c.Context(), &client.PlaceHoldParams{}, body))
		if err != nil {
			return err
		}
		return showHold(c, h)
	}
	f := c.Flags()
	f.BoolVar(&restriction, "restriction", false, "a restriction (Art. 18) instead of a legal hold")
	f.StringVar(&tenant, "tenant", "", "the controller on whose behalf data is held, where the map has tenants")
	f.StringVar(&request, "request", "", "a restriction request whose subject is held")
	f.StringVar(&system, "system", "", "the system of --entity")
	f.StringVar(&entity, "entity", "", "hold this entity's rows instead of a person's")
	f.StringArrayVar(&when, "when", nil, "with --entity: only rows with `field=value`; the same field again is another value")
	f.StringSliceVar(&null, "null", nil, "with --entity: only rows where this `field` is NULL")
	f.StringSliceVar(&notNull, "not-null", nil, "with --entity: only rows where this `field` is not NULL")
	f.StringVar(&reference, "reference", "", "file number of the matter; not a person's name")
	f.StringVar(&review, "review", "", "`day` by which a legal hold is looked at again, 2027-01-31")
	return c
}

// conditions puts flags together; nil without any.
func conditions(when, null, notNull []string) (*[]client.Condition, error) {
	var all []client.Condition
	at := map[string]int{}
	for _, w := range when {
		field, value, ok := strings.Cut(w, "=")
		if !ok || field == "" {
			return nil, usageError{errors.New("--when must be field=value")}
		}
		n, known := at[field]
		if !known {
			n = len(all)
			at[field] = n
			all = append(all, client.Condition{Field: field, Values: &[]string{}})
		}
		values := append(*all[n].Values, value)
		all[n].Values = &values
	}
	for _, f := range null {
		all = append(all, client.Condition{Field: f, Null: optional(true)})
	}
	for _, f := range notNull {
		all = append(all, client.Condition{Field: f, NotNull: optional(true)})
	}
	if all == nil {
		return nil, nil
	}
	return &all, nil
}

// day reads a date flag; nil when it was not given.
func day(flag, value string) (*openapi_types.Date, error) {
	if value == "" {
		return nil, nil
	}
	at, err := time.Parse(time.DateOnly, value)
	if err != nil {
		return nil, usageError{fmt.Errorf("--%s must be a day such as 2027-01-31", flag)}
	}
	return &openapi_types.Date{Time: at}, nil
}

func newHoldListCommand() *cobra.Command {
	var (
		lifted, overdue, all bool
		tenant, system       string
	)
	c := &cobra.Command{
		Use:   "list",
		Short: "List holds, newest first",
		Args:  exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			params := &client.ListHoldsParams{
				Lifted: optional(lifted), Overdue: optional(overdue), Tenant: optional(tenant), System: optional(system),
			}
			found := []client.Hold{}
			for {
				page, err := client.Read[client.HoldPage](api.ListHolds(c.Context(), params))
				if err != nil {
					return err
				}
				found = append(found, page.Holds...)
				if params.Cursor = page.NextCursor; !all || given(params.Cursor) == "" {
					break
				}
			}
			return show(c, found, func(w io.Writer) {
				writeHolds(w, found)
				if given(params.Cursor) != "" {
					fmt.Fprintln(w, "There are more: --all")
				}
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&lifted, "lifted", false, "those that were lifted, instead of those that last")
	f.BoolVar(&overdue, "overdue", false, "only those whose review date has passed")
	f.StringVar(&tenant, "tenant", "", "only this tenant's")
	f.StringVar(&system, "system", "", "only those on entities of this system")
	f.BoolVar(&all, "all", false, "every page, not only the first")
	return c
}

func newHoldFindCommand() *cobra.Command {
	return findCommand("hold", "the holds on", func(c *cobra.Command, api *client.Client, id client.Identifier, tenant *client.Tenant) error {
		found, err := client.Read[client.HoldPage](api.SearchHolds(c.Context(), client.HoldSearch{Identifier: id, Tenant: tenant}))
		if err != nil {
			return err
		}
		return show(c, found.Holds, func(w io.Writer) { writeHolds(w, found.Holds) })
	})
}

func newHoldReviewCommand() *cobra.Command {
	var next string
	c := &cobra.Command{
		Use:   "review HOLD",
		Short: "Say that a legal hold was looked at, and by when it is next",
		Args:  exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			at, err := day("next", next)
			if err != nil {
				return err
			}
			api, err := connect(c)
			if err != nil {
				return err
			}
			h, err := client.Read[client.Hold](api.GetHold(c.Context(), args[0]))
			if err != nil {
				return err
			}
			h, err = client.Read[client.Hold](api.ReviewHold(c.Context(), h.Id,
				&client.ReviewHoldParams{IfMatch: client.ETag(h.Version)}, client.HoldReview{Review: *at}))
			if err != nil {
				return err
			}
			return showHold(c, h)
		},
	}
	c.Flags().StringVar(&next, "next", "", "`day` by which it is looked at again, 2027-01-31")
	required(c, "next")
	return c
}

func newHoldLiftCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lift HOLD",
		Short: "End a hold: what it kept may be deleted again",
		Args:  exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			h, err := client.Read[client.Hold](api.GetHold(c.Context(), args[0]))
			if err != nil {
				return err
			}
			h, err = client.Read[client.Hold](api.LiftHold(c.Context(), h.Id, &client.LiftHoldParams{IfMatch: client.ETag(h.Version)}))
			if err != nil {
				return err
			}
			return showHold(c, h)
		},
	}
}

func showHold(c *cobra.Command, h *client.Hold) error {
	return show(c, h, func(w io.Writer) { writeHolds(w, []client.Hold{*h}) })
}

func writeHolds(w io.Writer, all []client.Hold) {
	row(w, "HOLD", "KIND", "COVERS", "REFERENCE", "REVIEW", "PLACED", "BY", "STATE")
	for i := range all {
		h := &all[i]
		review, state := "", "lasts"
		if h.Review != nil {
			review = h.Review.String()
			if h.LiftedAt == nil && h.Review.Before(time.Now()) {
				state = "review is overdue"
			}
		}
		if h.LiftedAt != nil {
			state = "lifted on " + h.LiftedAt.Format(time.DateOnly) + " by " + given(h.LiftedBy)
		}
		if h.LiftedAt == nil && h.Unlearned != nil {
			state += "; what else the person is called is not known yet (" + *h.Unlearned + "), Lethe asks again"
		}
		row(w, h.Id, h.Kind, covers(h), given(h.Reference), review, h.CreatedAt.Format(time.DateOnly), h.PlacedBy, state)
	}
	if len(all) == 0 {
		fmt.Fprintln(w, "There are none.")
	}
}

// covers is what a hold is on: of a person only that it is one, and whose data about them.
func covers(h *client.Hold) string {
	switch {
	case h.Entity == nil && h.Tenant != nil:
		return "a person, of " + *h.Tenant
	case h.Entity == nil:
		return "a person"
	}
	text := given(h.System) + "." + *h.Entity
	for _, c := range h.When {
		switch {
		case c.Values != nil:
			text += " " + c.Field + "=" + strings.Join(*c.Values, "|")
		case given(c.Null):
			text += " " + c.Field + " null"
		default:
			text += " " + c.Field + " not null"
		}
	}
	return text
}
