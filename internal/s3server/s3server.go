// Package s3server runs a real S3 server (versitygw) on a folder, for the demo and for tests: versions, Object Lock, tags,
// conditional writes, multipart uploads. The server changes the working directory of its process and there can be one
// in a process, so it runs in a child: the demo starts its own program again, test/services is that process.
package s3server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

// Options say where the server listens and keeps its objects.
type Options struct {
	Dir               string // absolute; made when missing
	Listen            string // "127.0.0.1:9000"
	AccessKey, Secret string
}

// copyThreshold is the size above which a server-side copy must be multipart, as on AWS: 5 GiB.
const copyThreshold = 5 << 30

// Serve runs the server until ctx ends.
func Serve(ctx context.Context, o Options) error {
	objects, versions, sidecar := filepath.Join(o.Dir, "objects"), filepath.Join(o.Dir, "versions"), filepath.Join(o.Dir, "meta")
	for _, d := range []string{objects, versions, sidecar} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	store, err := meta.NewSideCar(sidecar)
	if err != nil {
		return fmt.Errorf("keep the metadata of objects: %w", err)
	}
	var be backend.Backend
	be, err = posix.New(objects, store, posix.PosixOpts{VersioningDir: versions, SideCarDir: sidecar, CopyObjectThreshold: copyThreshold})
	if err != nil {
		return fmt.Errorf("open the folder of objects: %w", err)
	}
	return embedgw.RunVersityGW(ctx, be, &embedgw.Config{
		RootUserAccess: o.AccessKey, RootUserSecret: o.Secret, Ports: []string{o.Listen}, KeepAlive: true, Quiet: true,
		MaxConnections: 4096, MaxRequests: 1024, MultipartMaxParts: 10_000,
	})
}
