package api

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/lethe-gdpr/lethe/api/gen"
	"github.com/lethe-gdpr/lethe/dsr"
)

// GetPackage shows what is known about an access package.
func (s *server) GetPackage(ctx context.Context, in gen.GetPackageRequestObject) (gen.GetPackageResponseObject, error) {
	ctx, actor := caller(ctx)
	p, err := s.Engine.PackageInfo(ctx, actor, in.Id)
	if err != nil {
		return nil, err
	}
	return gen.GetPackage200JSONResponse{
		Size: p.Size, Records: p.Records, Sha256: p.SHA256, CreatedAt: p.CreatedAt, ExpiresAt: p.Expires,
		RemovedAt: p.RemovedAt,
	}, nil
}

// CreatePackageLink makes a one-time link.
func (s *server) CreatePackageLink(
	ctx context.Context, in gen.CreatePackageLinkRequestObject,
) (gen.CreatePackageLinkResponseObject, error) {
	ctx, actor := caller(ctx)
	l, err := s.Engine.PackageLink(ctx, actor, in.Id)
	if err != nil {
		return nil, err
	}
	url := "/v1/packages/" + l.Token.Reveal()
	return gen.CreatePackageLink201JSONResponse{
		Body:    gen.PackageLink{Url: &url, ExpiresAt: l.Expires},
		Headers: gen.CreatePackageLink201ResponseHeaders{Location: &url},
	}, nil
}

// maxDownload is how long a download may take; a server's usual limit on writing would cut a large package short.
const maxDownload = 6 * time.Hour

// DownloadPackage spends a one-time link. A wrong one counts as a failure to authenticate.
func (s *server) DownloadPackage(
	ctx context.Context, in gen.DownloadPackageRequestObject,
) (gen.DownloadPackageResponseObject, error) {
	g, _ := ctx.(*gin.Context)
	inner, _ := caller(ctx)
	p, err := s.Engine.OpenPackage(inner, dsr.NewSecret(in.Token))
	if dsr.CodeOf(err) == dsr.CodeNotFound {
		if err := s.Guard.Failed(inner, remote(g)); err != nil {
			return nil, err
		}
		return nil, &dsr.Error{
			Code: dsr.CodeNotFound, Msg: "this link was used, has expired, or never was", Hint: "ask for a new one",
		}
	}
	if err != nil {
		return nil, err
	}
	// Not every writer has deadlines; without one the server's own limit holds.
	_ = http.NewResponseController(g.Writer).SetWriteDeadline(time.Now().Add(maxDownload))
	out := gen.DownloadPackage200ApplicationzipResponse{Body: p}
	out.Headers.ContentDisposition = ptr(`attachment; filename="access-package.zip"`)
	if sum, err := hex.DecodeString(p.Info.SHA256); err == nil && len(sum) > 0 {
		out.Headers.ReprDigest = ptr("sha-256=:" + base64.StdEncoding.EncodeToString(sum) + ":")
	}
	return out, nil
}
