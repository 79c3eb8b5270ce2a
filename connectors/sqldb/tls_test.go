package sqldb

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/internal/dbtest"
)

// authority makes a self-signed certificate for 127.0.0.1 and writes it to a file.
func authority(t *testing.T) (path string, cert tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	path = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return path, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// rds stands before a real PostgreSQL as Amazon RDS does: it speaks TLS, and asks for a password in clear inside it.
// What it was told goes to passwords.
func rds(t *testing.T, cert tls.Certificate, server string) (address string, passwords chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	passwords = make(chan string, 16)
	serve := func(c net.Conn) error {
		defer c.Close()
		request := make([]byte, 8) // SSLRequest: its length and 80877103
		if _, err := io.ReadFull(c, request); err != nil {
			return err
		}
		if _, err := c.Write([]byte{'S'}); err != nil {
			return err
		}
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
		startup, err := message(s, nil)
		if err != nil {
			return err
		}
		if _, err := s.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3}); err != nil { // AuthenticationCleartextPassword
			return err
		}
		kind := make([]byte, 1)
		password, err := message(s, kind)
		if err != nil {
			return err
		}
		passwords <- strings.TrimRight(string(password[4:]), "\x00")
		up, err := net.Dial("tcp", server)
		if err != nil {
			return err
		}
		defer up.Close()
		if _, err := up.Write(startup); err != nil {
			return err
		}
		go func() { _, _ = io.Copy(up, s); _ = up.Close() }()
		_, err = io.Copy(s, up)
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = serve(c) }()
		}
	}()
	return l.Addr().String(), passwords
}

// message reads a message of PostgreSQL's protocol, length included, after its kind when there is one.
func message(r io.Reader, kind []byte) ([]byte, error) {
	if _, err := io.ReadFull(r, kind); err != nil {
		return nil, err
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	m := make([]byte, binary.BigEndian.Uint32(head))
	copy(m, head)
	_, err := io.ReadFull(r, m[4:])
	return m, err
}

func TestRDSByTLSAndToken(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	real, err := url.Parse(dbtest.Postgres(t))
	require.NoError(t, err)
	ca, cert := authority(t)
	other, _ := authority(t)
	address, passwords := rds(t, cert, real.Host)
	dsn := "postgres://" + real.User.Username() + "@" + address + real.Path + "?sslmode=verify-full"
	system := func(ca string) *connectors.System {
		return &connectors.System{Name: "rds", Connector: "postgres", Settings: map[string]any{
			"dsn": dsn, "ca": ca, "auth": "rds-iam", "region": "eu-north-1",
		}}
	}
	db, err := Open(t.Context(), system(ca), connectors.Options{Now: time.Now})
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Describe(t.Context())
	require.NoError(t, err)
	token := <-passwords
	require.True(t, strings.HasPrefix(token, address), "the token names the endpoint")
	require.Contains(t, token, "Action=connect")
	require.Contains(t, token, "X-Amz-Signature=")
	require.Contains(t, token, "DBUser="+real.User.Username())

	stranger, err := Open(t.Context(), system(other), connectors.Options{Now: time.Now})
	require.NoError(t, err, "nothing is connected yet")
	defer stranger.Close()
	_, err = stranger.Describe(t.Context())
	var known *dsr.Error
	require.ErrorAs(t, err, &known)
	require.NotEmpty(t, known.Hint)
	require.NotContains(t, err.Error(), "X-Amz")
	require.Empty(t, passwords, "no token goes to a server that is not trusted")
}
