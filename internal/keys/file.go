package keys

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// file is keys.json.
type file struct {
	Version int                     `json:"version"`
	KEK     string                  `json:"kek"` // name of the key-encryption key
	Keysets map[Set]json.RawMessage `json:"keysets"`
}

const fileVersion = 1

// sealer encrypts keysets of any size: KMS itself takes no more than 4 KiB.
func sealer(kek KEK) (tink.AEADWithContext, error) {
	return aead.NewKMSEnvelopeAEADWithContext(aead.AES256GCMKeyTemplate(), kek)
}

// place is the associated data of a keyset: it opens under its own name only.
func place(s Set) []byte { return []byte("lethe/keyset/v1/" + string(s)) }

func initialise(ctx context.Context, path string, kek KEK) error {
	sets := make(map[Set]*keyset.Handle)
	for _, s := range allSets() {
		h, err := keyset.NewHandle(template(s))
		if err != nil {
			return fmt.Errorf("make the keyset %s: %w", s, err)
		}
		sets[s] = h
	}
	body, err := seal(ctx, kek, sets)
	if err != nil {
		return err
	}
	err = create(path, body)
	if errors.Is(err, os.ErrExist) {
		return nil // another process was first; its keys are read next
	}
	return err
}

func seal(ctx context.Context, kek KEK, sets map[Set]*keyset.Handle) ([]byte, error) {
	envelope, err := sealer(kek)
	if err != nil {
		return nil, err
	}
	f := file{Version: fileVersion, KEK: kek.Name(), Keysets: map[Set]json.RawMessage{}}
	for s, h := range sets {
		var b bytes.Buffer
		if err := h.WriteWithContext(ctx, keyset.NewJSONWriter(&b), envelope, place(s)); err != nil {
			return nil, fmt.Errorf("encrypt the keyset %s under %s: %w", s, kek.Name(), err)
		}
		f.Keysets[s] = b.Bytes()
	}
	body, err := json.MarshalIndent(f, "", "  ")
	return append(body, '\n'), err
}

func read(ctx context.Context, path string, kek KEK) (map[Set]*keyset.Handle, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var f file
	if err := json.Unmarshal(body, &f); err != nil || f.Version != fileVersion {
		return nil, fmt.Errorf("%s is not a file of keysets of version %d: restore it from its backup", path, fileVersion)
	}
	if f.KEK != kek.Name() {
		return nil, fmt.Errorf("%s is encrypted under %s, but %s is configured", path, f.KEK, kek.Name())
	}
	envelope, err := sealer(kek)
	if err != nil {
		return nil, err
	}
	sets := make(map[Set]*keyset.Handle)
	for _, s := range allSets() {
		h, err := keyset.ReadWithContext(ctx, keyset.NewJSONReader(bytes.NewReader(f.Keysets[s])), envelope, place(s))
		if err != nil {
			return nil, fmt.Errorf("%s: the keyset %s does not open under %s: %w", path, s, kek.Name(), err)
		}
		sets[s] = h
	}
	return sets, nil
}

// create writes a new file whole or not at all, for its owner only; os.ErrExist when there is one.
func create(path string, body []byte) error {
	return write(path, body, os.Link)
}

// replace is create that takes the place of the file that is there.
func replace(path string, body []byte) error {
	return write(path, body, os.Rename)
}

func write(path string, body []byte, put func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(body)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := put(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
