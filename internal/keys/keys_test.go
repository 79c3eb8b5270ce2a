package keys_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/keys"
)

var secret = dsr.NewSecret("ada@example.com")

func open(t testing.TB, dir string) *keys.Keys {
	t.Helper()
	k, err := keys.Open(t.Context(), dir, nil)
	require.NoError(t, err)
	return k
}

func TestAValueOpensOnlyInItsPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wrapped, key, err := open(t, dir).NewDataKey(t.Context())
	require.NoError(t, err)
	sealed, err := key.Seal([]byte("plain"), []byte("request 1/email"))
	require.NoError(t, err)
	require.NotContains(t, string(sealed), "plain")

	again, err := open(t, dir).OpenDataKey(t.Context(), wrapped) // after a restart
	require.NoError(t, err)
	plain, err := again.Open(sealed, []byte("request 1/email"))
	require.NoError(t, err)
	require.Equal(t, "plain", string(plain))

	_, err = again.Open(sealed, []byte("request 2/email"))
	require.ErrorIs(t, err, keys.ErrSealed)
	sealed[len(sealed)-1] ^= 1
	_, err = again.Open(sealed, []byte("request 1/email"))
	require.ErrorIs(t, err, keys.ErrSealed)

	// Another request's key, another installation's keys.
	k := open(t, dir)
	_, other, err := k.NewDataKey(t.Context())
	require.NoError(t, err)
	sealed[len(sealed)-1] ^= 1
	_, err = other.Open(sealed, []byte("request 1/email"))
	require.ErrorIs(t, err, keys.ErrSealed)
	_, err = open(t, t.TempDir()).OpenDataKey(t.Context(), wrapped)
	require.ErrorIs(t, err, keys.ErrSealed)
	_, err = k.OpenDataKey(t.Context(), nil)
	require.ErrorIs(t, err, keys.ErrSealed)
}

func TestAStreamOpensOnlyWholeAndInItsPlace(t *testing.T) {
	t.Parallel()
	_, key, err := open(t, t.TempDir()).NewDataKey(t.Context())
	require.NoError(t, err)
	plain := make([]byte, 200<<10)
	_, _ = rand.Read(plain)
	var sealed bytes.Buffer
	w, err := key.SealStream(&sealed, []byte("package"))
	require.NoError(t, err)
	_, err = w.Write(plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())

	read := func(sealed []byte, place string) ([]byte, error) {
		r, err := key.OpenStream(bytes.NewReader(sealed), []byte(place))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	}
	got, err := read(sealed.Bytes(), "package")
	require.NoError(t, err)
	require.Equal(t, plain, got)
	_, err = read(sealed.Bytes(), "another")
	require.Error(t, err)
	_, err = read(sealed.Bytes()[:sealed.Len()-1], "package")
	require.Error(t, err)
	got, err = read(sealed.Bytes()[:64<<10], "package")
	require.Error(t, err, "cut at the end of a segment")
	require.Less(t, len(got), len(plain))
}

func TestCommitmentsAreEqualOnlyForEqualInput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := open(t, dir)
	seen := map[string]string{}
	for _, in := range [][3]string{
		{"", "email", "a"},
		{"", "email", "b"},
		{"", "user", "a"},
		{"t", "email", "a"},
		{"", "emaila", ""},
		{"email", "", "a"},
		{"", "", "emaila"},
	} {
		id, c, err := k.Commit(in[0], in[1], dsr.NewSecret(in[2]))
		require.NoError(t, err)
		require.NotEmpty(t, id)
		require.Empty(t, seen[c], "%q", in)
		seen[c] = "seen"
		candidates, err := open(t, dir).Candidates(in[0], in[1], dsr.NewSecret(in[2]))
		require.NoError(t, err)
		require.Equal(t, []string{c}, candidates)
	}
	_, other, err := open(t, t.TempDir()).Commit("", "email", dsr.NewSecret("a"))
	require.NoError(t, err)
	require.Empty(t, seen[other], "without the key nothing can be guessed")
}

func TestRotationOfCommitments(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	k := open(t, dir)
	oldID, oldC, err := k.Commit("", "email", secret)
	require.NoError(t, err)

	_, newID, err := k.Prepare(ctx, keys.Commitments)
	require.NoError(t, err)
	k = open(t, dir)
	id, c, err := k.Commit("", "email", secret)
	require.NoError(t, err)
	require.Equal(t, oldID, id, "a prepared key is not used yet")
	require.Equal(t, oldC, c)

	k, err = k.Promote(ctx, keys.Commitments, newID)
	require.NoError(t, err)
	id, c, err = k.Commit("", "email", secret)
	require.NoError(t, err)
	require.Equal(t, newID, id)
	candidates, err := k.Candidates("", "email", secret)
	require.NoError(t, err)
	require.Equal(t, []string{c, oldC}, candidates, "what was committed before is still found")

	_, err = k.Retire(ctx, oldID, []string{oldID})
	require.Equal(t, dsr.CodeWrongState, dsr.CodeOf(err), "a suppression needs it")
	_, err = k.Retire(ctx, newID, nil)
	require.Error(t, err, "the active key stays")
	_, err = k.Retire(ctx, "zzz", nil)
	require.Equal(t, dsr.CodeInvalid, dsr.CodeOf(err))
	_, err = k.Retire(ctx, oldID, nil)
	require.NoError(t, err)
	candidates, err = open(t, dir).Candidates("", "email", secret)
	require.NoError(t, err)
	require.Equal(t, []string{c}, candidates)
}

func TestRotationOfTheWrappingKey(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	k := open(t, dir)
	wrapped, key, err := k.NewDataKey(ctx)
	require.NoError(t, err)
	sealed, err := key.Seal([]byte("plain"), nil)
	require.NoError(t, err)
	k, id, err := k.Prepare(ctx, keys.Data)
	require.NoError(t, err)
	prepared := k
	k, err = k.Promote(ctx, keys.Data, id)
	require.NoError(t, err)

	key, err = k.OpenDataKey(ctx, wrapped)
	require.NoError(t, err)
	plain, err := key.Open(sealed, nil)
	require.NoError(t, err)
	require.Equal(t, "plain", string(plain))
	wrapped, _, err = k.NewDataKey(ctx)
	require.NoError(t, err)
	_, err = prepared.OpenDataKey(ctx, wrapped)
	require.NoError(t, err, "a process that was not restarted since Prepare can read what is new")
}

func TestPseudonymKeys(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	k := open(t, dir)
	id, email, err := k.Active("email")
	require.NoError(t, err)
	require.Len(t, email, 32)
	_, phone, err := k.Active("phone")
	require.NoError(t, err)
	require.NotEqual(t, email, phone, "a key per domain")
	internal, err := k.Secret("email")
	require.NoError(t, err)
	require.NotEqual(t, email, internal)

	k, next, err := k.Prepare(ctx, keys.Pseudonyms)
	require.NoError(t, err)
	k, err = k.Promote(ctx, keys.Pseudonyms, next)
	require.NoError(t, err)
	active, key, err := k.Active("email")
	require.NoError(t, err)
	require.NotEqual(t, id, active)
	all, err := open(t, dir).Live("email")
	require.NoError(t, err)
	require.Equal(t, [][]byte{key, email}, all)
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	open(t, dir)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 2)
	for _, f := range files {
		info, err := f.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), f.Name())
	}
	kek := filepath.Join(dir, "kek.json")
	require.NoError(t, os.Chmod(kek, 0o644))
	_, err = keys.Open(t.Context(), dir, nil)
	require.ErrorContains(t, err, "chmod 600")
}

func TestNothingIsReplacedInSilence(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, dir)
	require.NoError(t, os.Remove(filepath.Join(dir, "kek.json")))
	_, err := keys.Open(t.Context(), dir, nil)
	require.ErrorContains(t, err, "backup")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "keys.json"), []byte("{}"), 0o600))
	open(t, t.TempDir())
	_, err = keys.Open(t.Context(), dir, nil)
	require.Error(t, err)
}

func TestProcessesThatStartTogetherShareTheKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const processes = 8
	type result struct {
		commitment string
		err        error
	}
	results := make(chan result, processes)
	for range processes {
		go func() {
			k, err := keys.Open(context.WithoutCancel(t.Context()), dir, nil)
			if err != nil {
				results <- result{err: err}
				return
			}
			_, c, err := k.Commit("", "email", secret)
			results <- result{c, err}
		}()
	}
	first := <-results
	require.NoError(t, first.err)
	for range processes - 1 {
		require.Equal(t, first, <-results)
	}
}

// fakeKMS stands in for AWS, which no test can reach; it keeps the two promises that matter: only the same key and
// the same encryption context decrypt, and no more than 4 KiB are encrypted.
type fakeKMS struct {
	aead  cipher.AEAD
	calls int
}

func newFakeKMS(t testing.TB) *fakeKMS {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	a, err := cipher.NewGCMWithRandomNonce(block)
	require.NoError(t, err)
	return &fakeKMS{aead: a}
}

func aad(key *string, ec map[string]string) []byte {
	return fmt.Append(nil, *key, maps.Clone(ec)) // fmt prints maps in key order
}

func (f *fakeKMS) Encrypt(_ context.Context, in *kms.EncryptInput, _ ...func(*kms.Options)) (*kms.EncryptOutput, error) {
	f.calls++
	if len(in.Plaintext) > 4096 {
		return nil, fmt.Errorf("too long")
	}
	return &kms.EncryptOutput{CiphertextBlob: f.aead.Seal(nil, nil, in.Plaintext, aad(in.KeyId, in.EncryptionContext))}, nil
}

func (f *fakeKMS) Decrypt(_ context.Context, in *kms.DecryptInput, _ ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	f.calls++
	plain, err := f.aead.Open(nil, nil, in.CiphertextBlob, aad(in.KeyId, in.EncryptionContext))
	return &kms.DecryptOutput{Plaintext: plain}, err
}

func TestKMSHoldsTheKeyEncryptionKey(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	remote := newFakeKMS(t)
	kek := keys.AWSKMS(remote, "arn:aws:kms:eu-north-1:000000000000:key/example")
	k, err := keys.Open(ctx, dir, kek)
	require.NoError(t, err)
	require.NoFileExists(t, filepath.Join(dir, "kek.json"))
	before := remote.calls
	wrapped, _, err := k.NewDataKey(ctx)
	require.NoError(t, err)
	_, err = k.OpenDataKey(ctx, wrapped)
	require.NoError(t, err)
	require.Equal(t, before, remote.calls, "a data key asks nobody")

	for range 30 { // more than KMS would encrypt in one piece
		k, _, err = k.Prepare(ctx, keys.Commitments)
		require.NoError(t, err)
	}
	again, err := keys.Open(ctx, dir, kek)
	require.NoError(t, err)
	_, err = again.OpenDataKey(ctx, wrapped)
	require.NoError(t, err)

	_, err = keys.Open(ctx, dir, keys.AWSKMS(newFakeKMS(t), "arn:aws:kms:eu-north-1:000000000000:key/example"))
	require.Error(t, err, "another key")
	_, err = keys.Open(ctx, dir, nil)
	require.Error(t, err, "KMS is needed")

	// Moving to a local key-encryption key.
	local, err := keys.OpenLocal(dir, true)
	require.NoError(t, err)
	_, err = again.Reseal(ctx, local)
	require.NoError(t, err)
	_, err = open(t, dir).OpenDataKey(ctx, wrapped)
	require.NoError(t, err)
}

func BenchmarkDataKey(b *testing.B) {
	k, err := keys.Open(b.Context(), b.TempDir(), nil)
	require.NoError(b, err)
	for b.Loop() {
		wrapped, key, _ := k.NewDataKey(b.Context())
		sealed, _ := key.Seal([]byte("ada@example.com"), []byte("place"))
		again, _ := k.OpenDataKey(b.Context(), wrapped)
		_, _ = again.Open(sealed, []byte("place"))
	}
}
