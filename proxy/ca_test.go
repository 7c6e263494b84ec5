package proxy

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.org/agentkeys/credential"
)

func rules(patterns ...string) (r []credential.HostRule) {
	for _, p := range patterns {
		r = append(r, credential.HostRule{Pattern: p, Port: 443})
	}
	return r
}

// Go's verifier and openssl agree on what a child's certificate is for.
func TestNameConstraints(t *testing.T) {
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	openssl, _ := exec.LookPath("openssl")
	for _, test := range []struct {
		rules []string
		host  string
		ok    bool
	}{
		{[]string{"api.example.test"}, "api.example.test", true},
		{[]string{"api.example.test"}, "evil.test", false},
		{[]string{"api.example.test"}, "example.test", false},
		{[]string{"api.example.test"}, "xapi.example.test", false},
		{[]string{"api.example.test"}, "127.0.0.1", false},
		{[]string{"api.example.test"}, "::1", false},
		{[]string{"*.example.test", "other.test"}, "a.example.test", true},
		{[]string{"*.example.test", "other.test"}, "other.test", true},
		{[]string{"*.example.test", "other.test"}, "example.org", false},
		{[]string{"127.0.0.1"}, "127.0.0.1", true},
		{[]string{"127.0.0.1"}, "127.0.0.2", false},
		{[]string{"127.0.0.1"}, "api.example.test", false},
		{[]string{"127.0.0.1"}, "::1", false},
		{[]string{"127.0.0.1", "a.test"}, "a.test", true},
		{[]string{"127.0.0.1", "a.test"}, "b.test", false},
	} {
		root, err := ca.Certificate(rules(test.rules...))
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := ca.leaf(test.host)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(root)
		if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: test.host}); (err == nil) != test.ok {
			t.Errorf("%v, %s: Go says %v", test.rules, test.host, err)
		}
		if openssl == "" {
			continue
		}
		if out, ok := opensslVerify(t, openssl, root, leaf.Certificate[0]); ok != test.ok {
			t.Errorf("%v, %s: openssl says %s", test.rules, test.host, out)
		}
	}
}

func opensslVerify(t *testing.T, openssl string, root, leaf []byte) (string, bool) {
	t.Helper()
	dir := t.TempDir()
	for name, b := range map[string][]byte{"root.pem": root, "leaf.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-purpose", "sslserver",
		"-CAfile", filepath.Join(dir, "root.pem"), filepath.Join(dir, "leaf.pem")).CombinedOutput()
	return string(out), err == nil
}

func TestCertificateShape(t *testing.T) {
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	b, err := ca.Certificate(rules("*.example.test", "example.test", "a.test"))
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(b)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil || len(rest) != 0 {
		t.Fatal(err)
	}
	critical := false
	for _, e := range c.Extensions {
		critical = critical || e.Id.String() == "2.5.29.30" && e.Critical
	}
	if !critical || !c.IsCA || c.MaxPathLen != 0 || !c.MaxPathLenZero || len(c.PermittedDNSDomains) != 2 {
		t.Errorf("%+v", c)
	}
	if life := time.Until(c.NotAfter); life > 30*24*time.Hour || life < 29*24*time.Hour {
		t.Error("life", life)
	}
	leaf, err := ca.leaf("a.test")
	if err != nil {
		t.Fatal(err)
	}
	if leaf.Leaf.IsCA || time.Until(leaf.Leaf.NotAfter) > leafLife || leaf.Leaf.CheckSignatureFrom(c) != nil {
		t.Error("leaf")
	}
	if _, err := ca.Certificate(nil); err == nil {
		t.Error("a certificate without hosts would be for all")
	}
}

// The key in the owner's file is the same CA after a restart.
func TestCAKey(t *testing.T) {
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	s, err := ca.Secret()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseCA(s)
	if err != nil || again.name.CommonName != ca.name.CommonName || !bytes.Equal(again.keyID, ca.keyID) {
		t.Fatal(err)
	}
	root, err := ca.Certificate(rules("a.test"))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := again.leaf("a.test")
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "a.test"}); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "short", strings.Repeat("\x00", 32), strings.Repeat("\xff", 32), strings.Repeat("a", 33)} {
		if _, err := ParseCA(secretOf(bad)); err == nil {
			t.Errorf("%q is a key", bad)
		}
	}
}

func TestLeavesAreBounded(t *testing.T) {
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	first, err := ca.leaf("a.test")
	if err != nil {
		t.Fatal(err)
	}
	again, _ := ca.leaf("a.test")
	if &first.Certificate[0][0] != &again.Certificate[0][0] {
		t.Error("made twice")
	}
	for i := range maxLeafs + 10 {
		if _, err := ca.leaf(strings.Repeat("a", i%60+1) + ".b" + strings.Repeat("c", i/60+1)); err != nil {
			t.Fatal(err)
		}
	}
	if len(ca.leaves) > maxLeafs {
		t.Error(len(ca.leaves))
	}
}
