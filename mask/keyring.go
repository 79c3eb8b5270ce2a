package mask

// Keyring lends the keys of keyed pseudonyms, one set per pseudonymisation domain (ENISA 2019 §5).
type Keyring interface {
	// Active returns the id and the 32-byte key that new pseudonyms of a domain are made with.
	Active(domain string) (id string, key []byte, err error)
	// Live returns every key under which pseudonyms of a domain may exist, the active one first: searches try all.
	Live(domain string) ([][]byte, error)
}
