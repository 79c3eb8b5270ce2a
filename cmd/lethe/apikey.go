package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/client"
)

func newAPIKeyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "api-key",
		Short: "Make, list and revoke API keys",
		Long: `Make, list and revoke API keys. A key belongs to a person or a system; two keys of one person are one person when a
plan wants a second pair of eyes. Roles: dpo decides, operator runs the house, auditor reads everything but identifiers,
portal files requests and sees only its own.`,
	}
	group(c)
	serverFlags(c)
	c.AddCommand(newAPIKeyNewCommand(), newAPIKeyListCommand(), newAPIKeyRevokeCommand())
	return c
}

func newAPIKeyNewCommand() *cobra.Command {
	var (
		principal, kind, label string
		roles, tenants         []string
		valid                  time.Duration
	)
	c := &cobra.Command{
		Use:     "new",
		Short:   "Make a key and print its token, once",
		Example: `  lethe api-key new --principal anna --role dpo --label "Anna's laptop"`,
		Args:    exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			body := client.NewApiKey{Principal: principal, Type: client.PrincipalType(kind), Label: optional(label)}
			for _, r := range roles {
				body.Roles = append(body.Roles, client.Role(r))
			}
			if len(tenants) > 0 {
				body.Tenants = &tenants
			}
			if valid > 0 {
				body.ExpiresAt = optional(time.Now().Add(valid))
			}
			made, err := client.Read[client.CreatedApiKey](api.CreateApiKey(c.Context(), &client.CreateApiKeyParams{}, body))
			if err != nil {
				return err
			}
			return show(c, made, func(w io.Writer) { fmt.Fprintln(w, given(made.Token)) })
		},
	}
	c.Flags().StringVar(&principal, "principal", "", "id of the person or system; not an e-mail address")
	c.Flags().StringVar(&kind, "type", "person", "person or system")
	c.Flags().StringSliceVar(&roles, "role", nil, "dpo, operator, auditor, portal; may be given several times")
	c.Flags().StringSliceVar(&tenants, "tenant", nil, "bind the key to a tenant; may be given several times")
	c.Flags().StringVar(&label, "label", "", "what the key is for")
	c.Flags().DurationVar(&valid, "valid", 0, "how long it works, for example 720h; for ever when absent")
	required(c, "principal", "role")
	return c
}

func required(c *cobra.Command, flags ...string) {
	for _, f := range flags {
		if err := c.MarkFlagRequired(f); err != nil {
			panic(err) // the flag's name is wrong
		}
	}
}

func newAPIKeyListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List keys, live and dead",
		Args:  exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			var all []client.ApiKey
			for cursor := (*string)(nil); ; {
				page, err := client.Read[client.ApiKeyPage](api.ListApiKeys(c.Context(), &client.ListApiKeysParams{Cursor: cursor}))
				if err != nil {
					return err
				}
				all = append(all, page.Keys...)
				if cursor = page.NextCursor; given(cursor) == "" {
					break
				}
			}
			return show(c, all, func(w io.Writer) {
				row(w, "KEY", "PRINCIPAL", "TYPE", "ROLES", "CREATED", "STATE")
				for _, k := range all {
					state := "live"
					switch {
					case k.RevokedAt != nil:
						state = "revoked"
					case k.ExpiresAt != nil && k.ExpiresAt.Before(time.Now()):
						state = "expired"
					}
					row(w, k.Id, k.Principal, k.Type, joined(k.Roles), k.CreatedAt.Format(time.DateOnly), state)
				}
			})
		},
	}
}

func joined[T ~string](list []T) string {
	parts := make([]string, len(list))
	for i, v := range list {
		parts[i] = string(v)
	}
	return strings.Join(parts, ",")
}

func newAPIKeyRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke KEY",
		Short: "End a key",
		Args:  exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := connect(c)
			if err != nil {
				return err
			}
			k, err := client.Read[client.ApiKey](api.RevokeApiKey(c.Context(), args[0]))
			if err != nil {
				return err
			}
			return show(c, k, func(w io.Writer) { fmt.Fprintln(w, "revoked", args[0]) })
		},
	}
}
