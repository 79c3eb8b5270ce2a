// Package keys keeps Lethe's own keys as Tink keysets: one that wraps the data keys of Requests, one of commitments,
// one of pseudonyms. They lie together in keys.json, each encrypted under a key-encryption key ([KEK]) that is a local
// file or AWS KMS; it is asked once, when Lethe starts, so that a data key per Request costs microseconds.
//
// # Backup
//
// Without keys.json and its key-encryption key no stored identifier, checkpoint or package can be opened, and no
// pseudonym or suppression be recognised. Back them up apart from the database: whoever has both can read it.
//
// # Rotation
//
// Every process that shares a database needs the same keys.json, so a key is changed in two steps:
//
//  1. [Keys.Prepare] adds a key that nobody uses yet. Distribute the file and restart every process.
//  2. [Keys.Promote] makes it the one that new work is done with. Distribute and restart again.
//
// Keys that were active before stay live: what they wrapped still opens, and searches by commitment or pseudonym try
// all of them. [Keys.Retire] deletes a commitment key once nothing in the database was committed under it. A
// pseudonym key is never retired, since pseudonyms made with it live in other people's systems, and neither is a
// wrapping key. To change the key-encryption key itself: [Keys.Reseal].
package keys

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/lethe-gdpr/lethe/internal/engine"
	"github.com/lethe-gdpr/lethe/mask"
)

// KEK is a key-encryption key.
type KEK interface {
	tink.AEADWithContext
	// Name tells keys apart in keys.json and in errors; it is no secret.
	Name() string
}

// Set names one of the keysets.
type Set string

// The keysets.
const (
	Data        Set = "data"        // wraps data keys
	Commitments Set = "commitments" // HMAC-SHA-256 of identifiers
	Pseudonyms  Set = "pseudonyms"  // per-domain keys are derived from it
)

// Keys are the keysets, opened. It is safe for concurrent use.
type Keys struct {
	path string
	kek  KEK
	sets map[Set]*keyset.Handle

	wrap        tink.AEAD
	commitments *prf.Set
	pseudonyms  *prf.Set
	derived     sync.Map // domain -> [][]byte, the active key first
}

var (
	_ engine.Cipher    = (*Keys)(nil)
	_ engine.Committer = (*Keys)(nil)
	_ mask.Keyring     = (*Keys)(nil)
)

// keysFile is the name of the file of encrypted keysets.
const keysFile = "keys.json"

// Open opens the keysets in a folder. At the first start, when the folder has none, it creates them; processes that
// start together end up with the same ones. With a nil kek the key-encryption key is a local file in the same folder.
func Open(ctx context.Context, dir string, kek KEK) (*Keys, error) {
	path := filepath.Join(dir, keysFile)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the key folder: %w", err)
	}
	_, err := os.Stat(path)
	first := errors.Is(err, os.ErrNotExist)
	if kek == nil {
		if kek, err = OpenLocal(dir, first); err != nil {
			return nil, err
		}
	}
	if first {
		if err := initialise(ctx, path, kek); err != nil {
			return nil, err
		}
	}
	sets, err := read(ctx, path, kek)
	if err != nil {
		return nil, err
	}
	return open(path, kek, sets)
}

func open(path string, kek KEK, sets map[Set]*keyset.Handle) (*Keys, error) {
	k := &Keys{path: path, kek: kek, sets: sets}
	var err, errC, errP error
	k.wrap, err = aead.New(sets[Data])
	k.commitments, errC = prf.NewPRFSet(sets[Commitments])
	k.pseudonyms, errP = prf.NewPRFSet(sets[Pseudonyms])
	if err := errors.Join(err, errC, errP); err != nil {
		return nil, fmt.Errorf("open the keysets: %w", err)
	}
	return k, nil
}

// templates are what new keys are made of.
func template(s Set) *tinkpb.KeyTemplate {
	switch s {
	case Commitments:
		return prf.HMACSHA256PRFKeyTemplate()
	case Pseudonyms:
		return prf.HKDFSHA256PRFKeyTemplate()
	}
	return aead.AES256GCMKeyTemplate()
}

func allSets() []Set { return []Set{Data, Commitments, Pseudonyms} }
