package accesspackage

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
	"time"

	"github.com/klauspost/compress/flate"
)

// archive writes the zip and remembers what went into it.
type archive struct {
	w     *zip.Writer
	now   time.Time
	files []fileEntry
	names taken
}

// fileEntry is one line of the manifest.
type fileEntry struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"` // bytes
	SHA256  string `json:"sha256"`
	Records int64  `json:"records,omitempty"`
	// From is what the System calls a file: its path there, which Path had to change where file systems do not take it.
	From string `json:"from,omitempty"`
}

// manifest lists every file of a package but itself.
type manifest struct {
	Format     string      `json:"format"`
	Request    string      `json:"request"`
	Controller string      `json:"controller"`
	Created    time.Time   `json:"created"`
	MapHash    string      `json:"map_hash"`
	Records    int64       `json:"records"`
	Files      []fileEntry `json:"files"`
}

const manifestFormat = "lethe-access-package/1"

func newArchive(w io.Writer, now time.Time) *archive {
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, 3) })
	return &archive{w: z, now: now.UTC(), names: taken{}}
}

// add writes one file by calling fill, and returns its entry. The path may get a number when it is taken.
func (a *archive) add(path string, fill func(w io.Writer) (records int64, err error)) (fileEntry, error) {
	e := fileEntry{Path: a.names.unique(path)}
	w, err := a.w.CreateHeader(&zip.FileHeader{Name: e.Path, Method: zip.Deflate, Modified: a.now})
	if err != nil {
		return e, err
	}
	s := &summing{w: w, sum: sha256.New()}
	if e.Records, err = fill(s); err != nil {
		return e, err
	}
	e.Size, e.SHA256 = s.size, hex.EncodeToString(s.sum.Sum(nil))
	a.files = append(a.files, e)
	return e, nil
}

// close writes the manifest and the zip's directory.
func (a *archive) close(m manifest) error {
	m.Format, m.Files, m.Created = manifestFormat, a.files, a.now
	w, err := a.w.CreateHeader(&zip.FileHeader{Name: "manifest.json", Method: zip.Deflate, Modified: a.now})
	if err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(m); err != nil {
		return err
	}
	return a.w.Close()
}

// summing counts and hashes what passes through it.
type summing struct {
	w    io.Writer
	sum  hash.Hash
	size int64
}

func (s *summing) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.size += int64(n)
	s.sum.Write(b[:n])
	return n, err
}
