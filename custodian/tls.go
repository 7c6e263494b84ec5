package custodian

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"example.org/agentkeys/attest"

	"example.org/agentkeys"
)

// certificate reads tls.pem or makes a self-signed certificate. Clients trust its
// hash, not its names.
func (s *State) certificate() ([]byte, error) {
	path := filepath.Join(s.Home, "tls.pem")
	b, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if b, err = selfSigned(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return b, writeDurable(path, b)
}

func selfSigned() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "agentkeys custodian"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...), nil
}

// TLS is the server side: TLS 1.3 only, one certificate.
func (s *State) TLS() (*tls.Config, error) {
	cert, err := tls.X509KeyPair(s.tlsPEM, s.tlsPEM)
	if err != nil {
		return nil, fmt.Errorf("tls: tls.pem is damaged; restore it, or remove it and give clients the new pin: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}, nil
}

// Pin is SHA-256 of the certificate's DER bytes.
func (s *State) Pin() (agentkeys.Hash, error) {
	cfg, err := s.TLS()
	if err != nil {
		return agentkeys.Hash{}, err
	}
	return sha256.Sum256(cfg.Certificates[0].Certificate[0]), nil
}

// KeysHash is the report data of the custodian's evidence: statement key 32, pin 32.
// It ties TLS to what is attested.
func (s *State) KeysHash() (agentkeys.Hash, error) {
	pin, err := s.Pin()
	key := s.Key()
	return attest.KeysHash(key[:], pin[:]), err
}
