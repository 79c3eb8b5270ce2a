package keys

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"

	aeadsubtle "github.com/tink-crypto/tink-go/v2/aead/subtle"
	streamsubtle "github.com/tink-crypto/tink-go/v2/streamingaead/subtle"

	"github.com/lethe-gdpr/lethe/internal/engine"
)

// ErrSealed is returned for a ciphertext that does not open: wrong key, wrong place, or changed.
var ErrSealed = errors.New("a ciphertext does not open under this key and place")

const keySize = 32

var wrapping = []byte("lethe/data-key/v1")

// dataKey is AES-256-GCM for values and AES-256-GCM in segments for streams, under two keys derived from one.
type dataKey struct {
	aead   *aeadsubtle.AESGCM
	stream *streamsubtle.AESGCMHKDF
}

var _ engine.DataKey = (*dataKey)(nil)

// NewDataKey implements [engine.Cipher].
func (k *Keys) NewDataKey(context.Context) ([]byte, engine.DataKey, error) {
	raw := make([]byte, keySize)
	if _, err := rand.Read(raw); err != nil {
		return nil, nil, err
	}
	wrapped, err := k.wrap.Encrypt(raw, wrapping)
	if err != nil {
		return nil, nil, err
	}
	d, err := newDataKey(raw)
	return wrapped, d, err
}

// OpenDataKey implements [engine.Cipher].
func (k *Keys) OpenDataKey(_ context.Context, wrapped []byte) (engine.DataKey, error) {
	raw, err := k.wrap.Decrypt(wrapped, wrapping)
	if err != nil {
		return nil, ErrSealed
	}
	return newDataKey(raw)
}

// segment is how much of a stream is in memory at once, in bytes.
const segment = 64 << 10

func newDataKey(raw []byte) (engine.DataKey, error) {
	value, err := hkdf.Expand(sha256.New, raw, "lethe/value/v1", keySize)
	if err != nil {
		return nil, err
	}
	stream, err := hkdf.Expand(sha256.New, raw, "lethe/stream/v1", keySize)
	if err != nil {
		return nil, err
	}
	var d dataKey
	if d.aead, err = aeadsubtle.NewAESGCM(value); err != nil {
		return nil, err
	}
	d.stream, err = streamsubtle.NewAESGCMHKDF(stream, "SHA256", keySize, segment, 0)
	return &d, err
}

func (d *dataKey) Seal(plain, associated []byte) ([]byte, error) {
	return d.aead.Encrypt(plain, associated)
}

func (d *dataKey) Open(sealed, associated []byte) ([]byte, error) {
	plain, err := d.aead.Decrypt(sealed, associated)
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

// SealStream's writer must be closed; a stream that was not closed does not open to its end.
func (d *dataKey) SealStream(w io.Writer, associated []byte) (io.WriteCloser, error) {
	return d.stream.NewEncryptingWriter(w, associated)
}

// OpenStream's reader returns only what is authentic, and fails at the first segment that is not.
func (d *dataKey) OpenStream(r io.Reader, associated []byte) (io.Reader, error) {
	return d.stream.NewDecryptingReader(r, associated)
}
