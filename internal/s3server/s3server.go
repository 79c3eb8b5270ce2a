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
	Region            string // us-east-1 when empty
}

// copyThreshold is the size above which a server-side copy must be multipart, as on AWS: 5 GiB.
const copyThreshold = 5 << 30

// Serve runs the server until ctx ends, and then returns at once: the server itself would wait ten seconds for clients
// that keep idle connections. It is all that its process does: what the server would say about itself on standard
// output is dropped.
func Serve(ctx context.Context, o Options) error {
	objects, versions := filepath.Join(o.Dir, "objects"), filepath.Join(o.Dir, "versions")
	for _, d := range []string{objects, versions} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	quiet, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer quiet.Close()
	os.Stdout = quiet
	store, sidecar, err := metadata(o.Dir, objects)
	if err != nil {
		return fmt.Errorf("keep the metadata of objects: %w", err)
	}
	var be backend.Backend
	be, err = posix.New(objects, store, posix.PosixOpts{VersioningDir: versions, SideCarDir: sidecar, CopyObjectThreshold: copyThreshold})
	if err != nil {
		return fmt.Errorf("open the folder of objects: %w", err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- embedgw.RunVersityGW(ctx, be, &embedgw.Config{
			RootUserAccess: o.AccessKey, RootUserSecret: o.Secret, Region: o.Region, Ports: []string{o.Listen}, KeepAlive: true, Quiet: true,
			MaxConnections: 4096, MaxRequests: 1024, MultipartMaxParts: 10_000,
		})
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return nil
	}
}

// metadata keeps an object's metadata in extended attributes, which appear together with the object; where the file
// system has none, in a folder of files beside it, where a reader may see an object before its metadata.
func metadata(dir, objects string) (meta.MetadataStorer, string, error) {
	if err := (meta.XattrMeta{}).Test(objects); err == nil {
		return meta.XattrMeta{}, "", nil
	}
	sidecar := filepath.Join(dir, "meta")
	if err := os.MkdirAll(sidecar, 0o700); err != nil {
		return nil, "", err
	}
	store, err := meta.NewSideCar(sidecar)
	return store, sidecar, err
}
