package accesspackage_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/connectors/connectortest"
	lethes3 "github.com/lethe-gdpr/lethe/connectors/s3"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

// What comes out of a bucket says in the package which object it was: in a column of every record, and in the manifest
// for files, whose paths are not always theirs. Of other people in a key nothing is to be seen.
func TestAPackageOfABucketNamesItsObjects(t *testing.T) {
	t.Parallel()
	bucket := dbtest.S3(t)
	bucket.Version(t)
	put := func(key, body string) string {
		out, err := bucket.Client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket.Name, Key: &key, Body: strings.NewReader(body)})
		require.NoError(t, err)
		return *out.VersionId
	}
	version := put("events/2024/05/part-1.jsonl", `{"user":"7"}`+"\n"+`{"user":"42","did":"a"}`+"\n")
	others := put("events/of/bert@example.com.jsonl", `{"user":"42","did":"b"}`+"\n")
	put("avatars/42/a:1/b/c/d/e/f/g/face?.png", "picture")
	old := put("avatars/42/small.png", "old")
	put("avatars/42/small.png", "new")
	sys := &connectors.System{
		Name: "shop", Connector: "s3", Identifiers: map[string]dsr.IdentifierKind{"user_id": dsr.KindOpaque},
		Settings: map[string]any{
			"bucket": bucket.Name, "endpoint": bucket.Endpoint, "region": bucket.Region, "path_style": true,
			"access_key": bucket.AccessKey, "secret_key": bucket.Secret,
		},
		Entities: []connectors.Entity{
			{Name: "avatars", Erase: dsr.Delete, Settings: map[string]any{"objects": "avatars/{user_id}/**"}},
			{
				Name: "events", Erase: dsr.Delete, Settings: map[string]any{"objects": "events/**", "format": "jsonl"},
				Fields: []connectors.Field{{Name: "user", Identifier: "user_id"}},
			},
		},
	}
	c, err := lethes3.Open(t.Context(), sys, connectors.Options{})
	require.NoError(t, err)
	defer c.Close()

	b := setup(t)
	p := b.part(t, "shop")
	batch := connectors.Batch{{Ref: "req_1", Identifiers: []dsr.Identifier{{Name: "user_id", Value: dsr.NewSecret("42")}}}}
	require.NoError(t, c.Export(t.Context(), connectors.Job{Batch: batch, Journal: connectortest.NewJournal()},
		func(string) (connectors.Sink, error) { return p, nil }))
	require.NoError(t, p.Close())
	_, files := b.assemble(t)

	require.JSONEq(t, fmt.Sprintf(`[
		{"from_object": "events/2024/05/part-1.jsonl", "from_version": %q, "from_line": 2, "record": {"user": "42", "did": "a"}},
		{"from_object": "events/of/*.jsonl", "from_version": %q, "from_line": 1, "record": {"user": "42", "did": "b"}}
	]`, version, others), files["data/shop/events.json"])
	require.Contains(t, files["data/shop/events.csv"], "from_object,from_version,from_line,record\r\nevents/2024/05/part-1.jsonl,"+version+",2,")
	require.Contains(t, files["index.html"], "events/2024/05/part-1.jsonl")
	for name, text := range files {
		require.NotContains(t, text, "bert", name)
	}
	var m struct{ Files []struct{ Path, From string } }
	require.NoError(t, json.Unmarshal([]byte(files["manifest.json"]), &m))
	from := map[string]string{}
	for _, f := range m.Files {
		if f.From != "" {
			from[f.From] = files[f.Path]
		}
	}
	require.Equal(t, map[string]string{
		"avatars/42/a:1/b/c/d/e/f/g/face?.png": "picture", "avatars/42/small.png": "new", "versions/" + old + "/avatars/42/small.png": "old",
	}, from)
}
