package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lethe-gdpr/lethe/client"
	"github.com/lethe-gdpr/lethe/internal/app"
	"github.com/lethe-gdpr/lethe/internal/config"
)

// serverFlags are those of every command that goes through the API.
func serverFlags(c *cobra.Command) {
	c.PersistentFlags().String("server", "", "`URL` of the API (LETHE_SERVER; http://127.0.0.1:8080)")
	c.PersistentFlags().Bool("json", false, "print JSON")
}

// connect returns a client of the server. The key comes from LETHE_API_KEY, the file LETHE_API_KEY_FILE, or the
// bootstrap key of a server that was started in this folder; never from a flag, which others could read.
func connect(c *cobra.Command) (*client.Client, error) {
	server, _ := c.Flags().GetString("server")
	if server == "" {
		server = os.Getenv("LETHE_SERVER")
	}
	if server == "" {
		server = "http://127.0.0.1:8080"
	}
	key, ok, err := config.Secret(os.LookupEnv, "LETHE_API_KEY")
	if err != nil {
		return nil, usageError{err}
	}
	if !ok {
		data := os.Getenv("LETHE_DATA")
		if data == "" {
			data = config.Default().Data
		}
		b, err := os.ReadFile(filepath.Join(data, app.BootstrapFile))
		if err != nil {
			return nil, usageError{errors.New("there is no API key: set LETHE_API_KEY, or LETHE_API_KEY_FILE to a file that holds it")}
		}
		key = strings.TrimSpace(string(b))
	}
	return client.Connect(server, key)
}

// show writes v as JSON when --json was given, else lets text write it.
func show(c *cobra.Command, v any, text func(w io.Writer)) error {
	if asJSON, _ := c.Flags().GetBool("json"); asJSON {
		enc := json.NewEncoder(c.OutOrStdout())
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// row writes one line of a table.
func row(w io.Writer, cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, cell)
	}
	fmt.Fprintln(w)
}

// given returns what p points at, or the zero value.
func given[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// optional returns nil for the zero value.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
