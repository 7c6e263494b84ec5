package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/credential"
)

const (
	caLife   = 30 * 24 * time.Hour
	leafLife = 24 * time.Hour
	leafKeep = 12 * time.Hour // a leaf is served so long, so it never runs out in a connection's first hours
	maxLeafs = 512
	skew     = time.Hour // of a client's clock
)

// CA signs what the proxy shows to its children. One key gives many certificates, each
// for the hosts of one child; its leaves fit all of them. The key is in memory and, as
// [CA.Secret], in the owner's encrypted file.
type CA struct {
	key   *ecdsa.PrivateKey
	name  pkix.Name
	keyID []byte

	mu     sync.Mutex
	leaves map[string]leaf
}

type leaf struct {
	cert tls.Certificate
	made time.Time
}

// NewCA makes a key.
func NewCA() (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("proxy CA: %w", err)
	}
	return newCA(key)
}

// ParseCA reads what [CA.Secret] gave: the P-256 scalar, 32 bytes.
func ParseCA(s agentkeys.Secret) (*CA, error) {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), s.Reveal())
	if err != nil {
		return nil, errors.New("proxy CA: the key is damaged")
	}
	return newCA(key)
}

func newCA(key *ecdsa.PrivateKey) (*CA, error) {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("proxy CA: %w", err)
	}
	id := sha256.Sum256(point)
	// The name carries the key: a trust store with two of them finds the right one.
	name := pkix.Name{Organization: []string{"AgentKeys"}, CommonName: "AgentKeys proxy " + hex.EncodeToString(id[:8])}
	return &CA{key: key, name: name, keyID: id[:20], leaves: map[string]leaf{}}, nil
}

// Secret is the key, for the owner's encrypted file and for nothing else.
func (c *CA) Secret() (agentkeys.Secret, error) {
	b, err := c.key.Bytes()
	if err != nil {
		return agentkeys.Secret{}, fmt.Errorf("proxy CA: %w", err)
	}
	return agentkeys.NewSecret(b), nil
}

// Certificate gives a CA certificate as PEM, good for 30 days and for the hosts of these
// rules. Its name constraints (RFC 5280, 4.2.1.10) are critical; they cannot say "one
// label only" or "no name below", so they also permit names below a host. The proxy
// itself makes leaves only for hosts that a rule names exactly.
func (c *CA) Certificate(rules []credential.HostRule) ([]byte, error) {
	if len(rules) == 0 {
		return nil, errors.New("proxy CA: no host to certify, give the credential a host rule")
	}
	serial, err := serial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial, Subject: c.name, SubjectKeyId: c.keyID, AuthorityKeyId: c.keyID,
		NotBefore: now.Add(-skew), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	constrain(t, rules)
	der, err := x509.CreateCertificate(rand.Reader, t, t, &c.key.PublicKey, c.key)
	if err != nil {
		return nil, fmt.Errorf("proxy CA: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// constrain permits the rules' hosts. A form of name that no rule uses is excluded as a
// whole, because a constraint leaves other forms free.
func constrain(t *x509.Certificate, rules []credential.HostRule) {
	t.PermittedDNSDomainsCritical = true
	seen := map[string]bool{}
	for _, r := range rules {
		name := strings.TrimPrefix(r.Pattern, "*.")
		if seen[name] {
			continue
		}
		seen[name] = true
		if ip, err := netip.ParseAddr(name); err == nil {
			t.PermittedIPRanges = append(t.PermittedIPRanges, &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())})
		} else {
			t.PermittedDNSDomains = append(t.PermittedDNSDomains, name)
		}
	}
	if len(t.PermittedIPRanges) == 0 {
		t.ExcludedIPRanges = []*net.IPNet{
			{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, {IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
		}
	}
	if len(t.PermittedDNSDomains) == 0 {
		t.ExcludedDNSDomains = []string{""}
	}
}

// leaf gives the certificate of one host, which the caller has found in a rule.
func (c *CA) leaf(host string) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l, ok := c.leaves[host]; ok && time.Since(l.made) < leafKeep {
		return &l.cert, nil
	}
	cert, err := c.sign(host)
	if err != nil {
		return nil, err
	}
	if len(c.leaves) >= maxLeafs {
		clear(c.leaves) // a star rule can make many; signing again is cheap
	}
	c.leaves[host] = leaf{cert, time.Now()}
	return &cert, nil
}

func (c *CA) sign(host string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("proxy CA: %w", err)
	}
	serial, err := serial()
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial, NotBefore: now.Add(-skew), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(host); ip != nil {
		t.IPAddresses = []net.IP{ip}
	} else {
		t.DNSNames = []string{host}
	}
	parent := &x509.Certificate{Subject: c.name, SubjectKeyId: c.keyID, PublicKey: &c.key.PublicKey}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, c.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("proxy CA: %w", err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("proxy CA: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parsed}, nil
}

func serial() (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("proxy CA: %w", err)
	}
	b[0] &= 0x7f // RFC 5280: positive
	return new(big.Int).SetBytes(b), nil
}
