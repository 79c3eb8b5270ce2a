package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// localFile is the name of the file that holds the local key-encryption key in the clear.
const localFile = "kek.json"

// local is a key-encryption key in a file that only its owner can read.
type local struct{ aead tink.AEAD }

// OpenLocal reads the local key-encryption key of a folder; with mayCreate it makes one when there is none.
func OpenLocal(dir string, mayCreate bool) (KEK, error) {
	path := filepath.Join(dir, localFile)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && mayCreate:
		if err := createLocal(path); err != nil {
			return nil, err
		}
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%s is missing but the keys beside it need it: restore it from its backup", path)
	case err != nil:
		return nil, err
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s can be read by others: chmod 600 it", path)
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(body)))
	if err != nil {
		return nil, fmt.Errorf("%s is not a keyset: restore it from its backup", path)
	}
	a, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &local{a}, nil
}

func createLocal(path string) error {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&b)); err != nil {
		return err
	}
	err = create(path, b.Bytes())
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

func (*local) Name() string { return "local" }

func (l *local) EncryptWithContext(_ context.Context, plain, associated []byte) ([]byte, error) {
	return l.aead.Encrypt(plain, associated)
}

func (l *local) DecryptWithContext(_ context.Context, sealed, associated []byte) ([]byte, error) {
	return l.aead.Decrypt(sealed, associated)
}
