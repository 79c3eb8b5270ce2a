package engine

import (
	"context"
	"encoding/json"

	"github.com/lethe-gdpr/lethe/connectors"
)

// sealer seals the checkpoints of one Run or Sweep under a data key of its own, which is stored, wrapped, beside them.
type sealer struct {
	cipher  Cipher
	place   []byte
	key     DataKey
	wrapped []byte
}

type envelope struct {
	Key    []byte `json:"key"` // wrapped
	Sealed []byte `json:"sealed"`
}

var errUnreadable = connectors.Permanent("checkpoint-unreadable", "the checkpoint of this run cannot be decrypted",
	"see whether Lethe runs with the keys that the run was started with; then retry", nil)

// openCheckpoint opens what was sealed last of a Run or Sweep; plain is nil where nothing was.
func (e *Engine) openCheckpoint(ctx context.Context, id string, sealed []byte) (s *sealer, plain []byte, err error) {
	s = &sealer{cipher: e.c.Cipher, place: []byte("checkpoint\x00" + id)}
	if len(sealed) == 0 {
		return s, nil, nil
	}
	var env envelope
	if json.Unmarshal(sealed, &env) != nil {
		return nil, nil, errUnreadable
	}
	if s.key, err = s.cipher.OpenDataKey(ctx, env.Key); err != nil {
		return nil, nil, err
	}
	s.wrapped = env.Key
	if plain, err = s.key.Open(env.Sealed, s.place); err != nil {
		return nil, nil, errUnreadable
	}
	return s, plain, nil
}

func (s *sealer) seal(ctx context.Context, plain []byte) ([]byte, error) {
	if s.key == nil {
		wrapped, key, err := s.cipher.NewDataKey(ctx)
		if err != nil {
			return nil, err
		}
		s.key, s.wrapped = key, wrapped
	}
	sealed, err := s.key.Seal(plain, s.place)
	if err != nil {
		return nil, err
	}
	return json.Marshal(envelope{Key: s.wrapped, Sealed: sealed})
}
