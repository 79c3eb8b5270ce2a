package accesspackage

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/datamap"
	"github.com/lethe-gdpr/lethe/internal/engine"
)

// Store keeps parts and packages in a folder. It implements [engine.Packager] and is safe for concurrent use. Every
// worker, and the API that hands packages out, must see the same folder.
type Store struct {
	dir  string
	read func(yaml []byte) (*datamap.Map, error)
}

var _ engine.Packager = (*Store)(nil)

// New returns a Store in dir, which it creates. read parses a stored version of the data map.
func New(dir string, read func(yaml []byte) (*datamap.Map, error)) (*Store, error) {
	for _, d := range []string{stagingDir, packageDir} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, unavailable(err)
		}
	}
	// what a worker had begun to discard when it died
	if err := removeAll(filepath.Join(dir, stagingDir), discarded, ""); err != nil {
		return nil, err
	}
	return &Store{dir: dir, read: read}, nil
}

// removeAll removes what has these ends of its name in a folder.
func removeAll(dir, prefix, suffix string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return unavailable(err)
	}
	for _, e := range entries {
		if n := e.Name(); strings.HasPrefix(n, prefix) && strings.HasSuffix(n, suffix) {
			err = errors.Join(err, unavailable(os.RemoveAll(filepath.Join(dir, n))))
		}
	}
	return err
}

const (
	stagingDir = "staging"
	packageDir = "packages"
	discarded  = ".discarded-" // no id begins with a dot
)

// fileName is a file name for an id or a name of the data map. One that had to be changed gets a hash of itself, so
// that two never share a file.
func fileName(s string) string {
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.' {
			return r
		}
		return -1
	}, s)
	if safe == s && s != "" && s[0] != '.' && len(s) <= maxName {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "x-" + hex.EncodeToString(sum[:8])
}

func (s *Store) staging(request string) string {
	return filepath.Join(s.dir, stagingDir, fileName(request))
}

func (s *Store) partPath(request, system string) string {
	return filepath.Join(s.staging(request), fileName(system)+".part")
}

// OpenPart implements [engine.Packager]. Only one may be open for a Request and System at a time; CodeUnavailable
// while another worker has it.
func (s *Store) OpenPart(request, system string, key engine.DataKey) (engine.Part, error) {
	if err := os.MkdirAll(s.staging(request), 0o700); err != nil {
		return nil, unavailable(err)
	}
	p, err := openPart(s.partPath(request, system), place(request, system), key)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func place(request, system string) string { return request + "\x00" + system }

func sealedAs(request string) []byte { return []byte("access-package\x00" + request) }

// Open implements [engine.Packager].
func (s *Store) Open(p *engine.Package, key engine.DataKey) (io.ReadCloser, error) {
	path, err := s.packagePath(p)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &dsr.Error{Code: dsr.CodeNotFound, Msg: "the package is no longer there", Hint: "ask for a new copy"}
	}
	if err != nil {
		return nil, unavailable(err)
	}
	r, err := key.OpenStream(f, sealedAs(p.Request))
	if err != nil {
		_ = f.Close()
		return nil, damaged()
	}
	return struct {
		io.Reader
		io.Closer
	}{r, f}, nil
}

// packagePath keeps what the database says inside the folder.
func (s *Store) packagePath(p *engine.Package) (string, error) {
	if !filepath.IsLocal(p.Path) {
		return "", &dsr.Error{Code: dsr.CodeInvalid, Msg: "the package's path leads out of the package store"}
	}
	return filepath.Join(s.dir, p.Path), nil
}

// Remove implements [engine.Packager]. Removing what is gone is no error.
func (s *Store) Remove(p *engine.Package) error {
	path, err := s.packagePath(p)
	if err != nil {
		return err
	}
	for _, f := range []string{path, path + noteSuffix} {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unavailable(err)
		}
	}
	return nil
}

// Discard implements [engine.Packager]. The parts are gone at once and together, whatever happens while their files are
// removed.
func (s *Store) Discard(request string) error {
	from := s.staging(request)
	to := filepath.Join(s.dir, stagingDir, discarded+rand.Text())
	switch err := os.Rename(from, to); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return unavailable(err)
	}
	return unavailable(os.RemoveAll(to))
}
