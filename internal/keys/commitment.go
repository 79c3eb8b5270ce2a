package keys

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/lethe-gdpr/lethe/dsr"
)

// keyID is how a key is called outside its keyset.
func keyID(id uint32) string { return fmt.Sprintf("%08x", id) }

// Commit implements [engine.Committer] with the active key.
func (k *Keys) Commit(tenant, name string, value dsr.Secret) (string, string, error) {
	id := k.commitments.PrimaryID
	c, err := commitment(k.commitments.PRFs[id], tenant, name, value)
	return keyID(id), c, err
}

// Candidates implements [engine.Committer].
func (k *Keys) Candidates(tenant, name string, value dsr.Secret) ([]string, error) {
	var all []string
	for _, id := range live(k.commitments) {
		c, err := commitment(k.commitments.PRFs[id], tenant, name, value)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// commitment separates tenant, name and value by their lengths, so that no two inputs run together.
func commitment(f prf.PRF, tenant, name string, value dsr.Secret) (string, error) {
	const size = 32 // HMAC-SHA-256
	in := []byte("lethe/commitment/v1")
	for _, part := range []string{tenant, name, value.Reveal()} {
		in = binary.BigEndian.AppendUint32(in, uint32(len(part)))
		in = append(in, part...)
	}
	out, err := f.ComputePRF(in, size)
	return base64.RawURLEncoding.EncodeToString(out), err
}

// live lists the keys of a set, the active one first.
func live(s *prf.Set) []uint32 {
	ids := []uint32{s.PrimaryID}
	for id := range s.PRFs {
		if id != s.PrimaryID {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids[1:])
	return ids
}
