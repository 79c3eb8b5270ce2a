package keys

import "github.com/tink-crypto/tink-go/v2/prf"

// Active implements [mask.Keyring].
func (k *Keys) Active(domain string) (string, []byte, error) {
	all, err := k.Live(domain)
	if err != nil {
		return "", nil, err
	}
	return keyID(k.pseudonyms.PrimaryID), all[0], nil
}

// Live implements [mask.Keyring]. The caller must not change the keys.
func (k *Keys) Live(domain string) ([][]byte, error) {
	if cached, ok := k.derived.Load(domain); ok {
		return cached.([][]byte), nil
	}
	var all [][]byte
	for _, id := range live(k.pseudonyms) {
		key, err := derive(k.pseudonyms.PRFs[id], "pseudonym", domain)
		if err != nil {
			return nil, err
		}
		all = append(all, key)
	}
	k.derived.Store(domain, all)
	return all, nil
}

// Secret derives a 32-byte key for a purpose inside Lethe, such as keyed hashes of idempotency keys. It changes when
// the active pseudonym key does, so nothing that must outlive that may depend on it.
func (k *Keys) Secret(purpose string) ([]byte, error) {
	return derive(k.pseudonyms.PRFs[k.pseudonyms.PrimaryID], "internal", purpose)
}

// derive is HKDF-SHA-256: the keyset's key is the input, use and name are the info. A use holds no slash, so the two
// cannot run together.
func derive(f prf.PRF, use, name string) ([]byte, error) {
	return f.ComputePRF([]byte("lethe/"+use+"/v1/"+name), keySize)
}
