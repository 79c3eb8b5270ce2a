package engine

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"

	"github.com/lethe-gdpr/lethe/dsr"
)

// PackageInfo describes the access package of a Request.
func (e *Engine) PackageInfo(ctx context.Context, a dsr.Actor, id string) (*Package, error) {
	var p *Package
	err := e.read(ctx, a, id, func(tx Tx, _ *dsr.Request) (err error) {
		p, err = tx.PackageOf(id)
		return err
	})
	if dsr.CodeOf(err) == dsr.CodeNotFound {
		return nil, &dsr.Error{Code: dsr.CodeNotFound, Msg: "there is no package for this request", Hint: "it is built when an access request completes"}
	}
	return p, err
}

// PackageLink makes a one-time download link. Only the hash of its token is kept.
func (e *Engine) PackageLink(ctx context.Context, a dsr.Actor, id string) (*Link, error) {
	if _, err := e.PackageInfo(ctx, a, id); err != nil {
		return nil, err
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return nil, err
	}
	token := base64.RawURLEncoding.EncodeToString(raw)
	var link *Link
	err := e.change(ctx, a, func(c *changes) error {
		rs, err := c.tx.LockRequests(id)
		if err != nil {
			return err
		}
		if len(rs) == 0 {
			return noRequest()
		}
		p, err := c.tx.PackageOf(id)
		if err != nil {
			return err
		}
		if p.RemovedAt != nil || !p.Expires.After(c.now) {
			return &dsr.Error{Code: dsr.CodeNotFound, Msg: "the package has expired", Hint: "file the request again"}
		}
		expires := c.now.Add(e.c.Policy.LinkTTL)
		if expires.After(p.Expires) {
			expires = p.Expires
		}
		if err := c.tx.PutLink(id, tokenHash(token), expires); err != nil {
			return err
		}
		c.note(rs[0], "package.linked", nil)
		link = &Link{Token: dsr.NewSecret(token), Expires: expires}
		return nil
	})
	return link, err
}

func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// OpenPackage spends a link and streams the package. That it was downloaded is in the timeline.
func (e *Engine) OpenPackage(ctx context.Context, token dsr.Secret) (*OpenedPackage, error) {
	gone := &dsr.Error{Code: dsr.CodeNotFound, Msg: "the link is unknown, used or expired", Hint: "ask for a new one"}
	if e.c.Packager == nil {
		return nil, gone
	}
	var p *Package
	err := e.change(ctx, dsr.Engine, func(c *changes) error {
		id, err := c.tx.TakeLink(tokenHash(token.Reveal()), c.now)
		if err != nil {
			return err
		}
		rs, err := c.tx.LockRequests(id)
		if err != nil {
			return err
		}
		if len(rs) == 0 {
			return gone
		}
		if p, err = c.tx.PackageOf(id); err != nil {
			return err
		}
		if p.RemovedAt != nil || !p.Expires.After(c.now) {
			return gone
		}
		c.note(rs[0], "package.downloaded", nil)
		return nil
	})
	if dsr.CodeOf(err) == dsr.CodeNotFound {
		return nil, gone
	}
	if err != nil {
		return nil, err
	}
	key, err := e.c.Cipher.OpenDataKey(ctx, p.DataKey)
	if err != nil {
		return nil, err
	}
	body, err := e.c.Packager.Open(p, key)
	if err != nil {
		return nil, staging(err)
	}
	return &OpenedPackage{ReadCloser: body, Info: p}, nil
}
