package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"strings"

	"github.com/lethe-gdpr/lethe/dsr"
)

const (
	tokenPrefix = "lethe_"
	idLength    = 16 // characters of base32: 80 bits, public
	secretBytes = 32
)

func lower32() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// newToken makes "lethe_<id>_<secret>". The prefix lets secret scanners find a token that was committed by mistake.
func newToken() (id string, token dsr.Secret, hash []byte) {
	var b [10 + secretBytes]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	id = lower32().EncodeToString(b[:10])
	secret := lower32().EncodeToString(b[10:])
	return id, dsr.NewSecret(tokenPrefix + id + "_" + secret), HashSecret(secret)
}

// HashSecret is what is stored of a secret. One SHA-256 is enough, and salt or a slow hash would add nothing: the
// secret is 256 random bits, so there is no list of likely values to try, and every call has to be checked quickly.
func HashSecret(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}

// parseToken splits a token; ok is false when it cannot be one.
func parseToken(token dsr.Secret) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(token.Reveal(), tokenPrefix)
	if !ok {
		return "", "", false
	}
	id, secret, ok = strings.Cut(rest, "_")
	if !ok || len(id) != idLength || len(secret) != lower32().EncodedLen(secretBytes) {
		return "", "", false
	}
	if _, err := lower32().DecodeString(id); err != nil {
		return "", "", false
	}
	return id, secret, true
}

// matches compares in constant time. A nil key costs the same as a wrong secret, so that timing does not tell whether
// a key exists.
func matches(k *Key, secret string) bool {
	held := make([]byte, sha256.Size)
	if k != nil {
		held = k.Hash
	}
	return subtle.ConstantTimeCompare(held, HashSecret(secret)) == 1 && k != nil
}
