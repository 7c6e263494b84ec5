package devcloud

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"example.org/agentkeys/blobstore"
)

const (
	// Account is the account of every devcloud; role ARNs carry it.
	Account = "000000000000"
	// Region is the only region that devcloud answers to.
	Region = "us-east-1"
	// DefaultBucket is the bucket of a development vault.
	DefaultBucket = "agentkeys-vault-" + Account
)

// Config says where devcloud lives and whose tokens it takes.
type Config struct {
	// Dir is the data directory. It is made if it is missing and locked while
	// Run runs. Its file system must have user extended attributes.
	Dir string
	// S3Addr and STSAddr are loopback addresses, host:port; port 0 is any free one.
	S3Addr, STSAddr string
	// Bucket is made at the first start.
	Bucket string
	// Versioned keeps every version of every object, like a production bucket. It
	// is chosen at the first start of a data directory.
	Versioned bool
	// Issuer and Audience are what a token's iss and aud must be. Issuer is a URL.
	Issuer, Audience string
	// JWKSFile holds the issuer's public keys. It may appear after the start and
	// change at any time; a token with an unknown key makes it read again.
	JWKSFile string
	// Ready is called once, when both servers answer. It may be nil.
	Ready func(Endpoints)
}

// Endpoints are the URLs of the two servers.
type Endpoints struct {
	S3  string `json:"s3"`
	STS string `json:"sts"`
}

func (c Config) complete() (Config, error) {
	if c.Bucket == "" {
		c.Bucket = DefaultBucket
	}
	for _, need := range []struct{ name, value string }{
		{"data directory", c.Dir}, {"issuer", c.Issuer}, {"audience", c.Audience}, {"JWKS file", c.JWKSFile},
	} {
		if need.value == "" {
			return c, fmt.Errorf("devcloud config: %s is missing", need.name)
		}
	}
	if u, err := url.Parse(c.Issuer); err != nil || u.Scheme == "" || u.Host == "" {
		return c, fmt.Errorf("devcloud config: issuer %q is not a URL", c.Issuer)
	}
	for _, addr := range []string{c.S3Addr, c.STSAddr} {
		if err := loopback(addr); err != nil {
			return c, err
		}
	}
	// Relative paths must be settled before versitygw changes the directory.
	var err error
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return c, fmt.Errorf("devcloud config: %w", err)
	}
	if c.JWKSFile, err = filepath.Abs(c.JWKSFile); err != nil {
		return c, fmt.Errorf("devcloud config: %w", err)
	}
	return c, nil
}

// loopback refuses addresses that others can reach: devcloud has no TLS.
func loopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("devcloud config: address %q: want host:port", addr)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return errors.New("devcloud config: " + addr + " is not loopback; use 127.0.0.1")
	}
	return nil
}

func (c Config) grantor() blobstore.Grantor {
	return blobstore.Grantor{Account: Account, Provider: c.provider(), Audience: c.Audience, Bucket: c.Bucket}
}

// provider is the issuer without its scheme, as in condition keys and ARNs.
func (c Config) provider() string {
	_, rest, _ := strings.Cut(c.Issuer, "://")
	return rest
}
