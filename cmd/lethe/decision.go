package main

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/client"
)

// decision is one POST below a request: it needs the ETag of the request as it is now.
type decision struct {
	use, short string
	args       int // arguments besides the request's id
	flags      func(c *cobra.Command)
	call       func(ctx context.Context, api *client.Client, r *client.Request, c *cobra.Command, args []string) (*http.Response, error)
}

func text(c *cobra.Command, flag string) string {
	v, _ := c.Flags().GetString(flag)
	return v
}

// newDecisionCommands are the decisions that take a few plain values.
func newDecisionCommands() []*cobra.Command {
	var out []*cobra.Command
	for _, d := range []decision{
		{
			use: "refuse ID", short: "Refuse a request, with the article that allows it",
			flags: func(c *cobra.Command) {
				c.Flags().String("article", "", "for example 12(5)(b) or 17(3)(e)")
				c.Flags().String("reason", "", "a short code, for example manifestly_unfounded; not free text")
				required(c, "article", "reason")
			},
			call: func(ctx context.Context, api *client.Client, r *client.Request, c *cobra.Command, _ []string) (*http.Response, error) {
				return api.RefuseRequest(ctx, r.Id, &client.RefuseRequestParams{IfMatch: r.ETag()},
					client.Refusal{Article: text(c, "article"), Reason: text(c, "reason")})
			},
		},
		{
			use: "extend ID", short: "Extend the deadline by two months (Art. 12(3))",
			flags: func(c *cobra.Command) {
				c.Flags().String("reason", "", "complexity or number_of_requests")
				required(c, "reason")
			},
			call: func(ctx context.Context, api *client.Client, r *client.Request, c *cobra.Command, _ []string) (*http.Response, error) {
				return api.ExtendRequest(ctx, r.Id, &client.ExtendRequestParams{IfMatch: r.ETag()},
					client.Extension{Reason: client.ExtensionReason(text(c, "reason"))})
			},
		},
		{
			use: "pause ID", short: "Stop the clock while the subject has to answer",
			flags: func(c *cobra.Command) {
				c.Flags().String("reason", "", "identity or clarification")
				required(c, "reason")
			},
			call: func(ctx context.Context, api *client.Client, r *client.Request, c *cobra.Command, _ []string) (*http.Response, error) {
				return api.PauseRequest(ctx, r.Id, &client.PauseRequestParams{IfMatch: r.ETag()},
					client.PauseReason{Reason: client.PauseReasonReason(text(c, "reason"))})
			},
		},
		{
			use: "resume ID", short: "Let the clock go on",
			call: func(ctx context.Context, api *client.Client, r *client.Request, _ *cobra.Command, _ []string) (*http.Response, error) {
				return api.ResumeRequest(ctx, r.Id, &client.ResumeRequestParams{IfMatch: r.ETag()})
			},
		},
		{
			use: "cancel ID", short: "Withdraw a request before its work is claimed",
			call: func(ctx context.Context, api *client.Client, r *client.Request, _ *cobra.Command, _ []string) (*http.Response, error) {
				return api.CancelRequest(ctx, r.Id, &client.CancelRequestParams{IfMatch: r.ETag()})
			},
		},
		{
			use: "retry ID", short: "Try again what needed attention, or look again at what a deferred request waits for",
			call: func(ctx context.Context, api *client.Client, r *client.Request, _ *cobra.Command, _ []string) (*http.Response, error) {
				return api.RetryRequest(ctx, r.Id, &client.RetryRequestParams{IfMatch: r.ETag()})
			},
		},
		{
			use: "confirm-identity ID", short: "Say that the subject is who they say",
			flags: func(c *cobra.Command) {
				c.Flags().String("method", "", "how it was verified: session, email_code, in_person …")
				required(c, "method")
			},
			call: func(ctx context.Context, api *client.Client, r *client.Request, c *cobra.Command, _ []string) (*http.Response, error) {
				return api.ConfirmIdentity(ctx, r.Id, &client.ConfirmIdentityParams{IfMatch: r.ETag()},
					client.IdentityConfirmation{Method: text(c, "method")})
			},
		},
		{
			use: "instruct ID", short: "Record the controller's instruction to a processor",
			flags: func(c *cobra.Command) {
				c.Flags().String("reference", "", "your own file number of the instruction; not a person's name")
				required(c, "reference")
			},
			call: func(ctx context.Context, api *client.Client, r *client.Request, c *cobra.Command, _ []string) (*http.Response, error) {
				return api.InstructRequest(ctx, r.Id, &client.InstructRequestParams{IfMatch: r.ETag()},
					client.Instruction{Reference: text(c, "reference")})
			},
		},
		{
			use: "complete ID SYSTEM", short: "Say that a manual task is done", args: 1,
			flags: func(c *cobra.Command) {
				c.Flags().Int64("records", 0, "how many records you handled")
				required(c, "records")
			},
			call: func(ctx context.Context, api *client.Client, r *client.Request, c *cobra.Command, args []string) (*http.Response, error) {
				records, _ := c.Flags().GetInt64("records")
				return api.CompleteTask(ctx, r.Id, args[1], &client.CompleteTaskParams{IfMatch: r.ETag()},
					client.TaskCompletion{Records: records})
			},
		},
	} {
		out = append(out, newDecisionCommand(d))
	}
	return out
}

func newDecisionCommand(d decision) *cobra.Command {
	c := &cobra.Command{
		Use:   d.use,
		Short: d.short,
		Args:  exactArgs(1 + d.args),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			r, err := client.Read[client.Request](api.GetRequest(c.Context(), args[0]))
			if err != nil {
				return err
			}
			if r, err = client.Read[client.Request](d.call(c.Context(), api, r, c, args)); err != nil {
				return err
			}
			return showRequest(c, r)
		},
	}
	if d.flags != nil {
		d.flags(c)
	}
	return c
}
