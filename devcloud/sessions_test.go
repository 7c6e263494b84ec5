package devcloud

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/versity/versitygw/auth"
)

func TestSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sessions{live: map[string]*session{}}
		n := s.open(role{arn: "arn:aws:iam::000000000000:role/agentkeys-user"}, "test", nil, time.Now().Add(time.Hour))
		find := func(what, access, token string, want error) {
			t.Helper()
			if _, err := s.find(access, token); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
			if _, _, err := s.DeriveSigningKey(access, token, "20260101", Region, "s3"); !errors.Is(err, want) {
				t.Errorf("%s: signing key: %v, want %v", what, err, want)
			}
		}
		find("fresh", n.access, n.token, nil)
		find("other token", n.access, n.token+"x", auth.ErrInvalidSessionToken)
		find("no token", n.access, "", auth.ErrInvalidSessionToken)
		find("unknown", "ASIA", n.token, auth.ErrNoSuchUser)
		time.Sleep(time.Hour - time.Second)
		find("last second", n.access, n.token, nil)
		time.Sleep(time.Second)
		find("over", n.access, n.token, errExpired)
		time.Sleep(2 * time.Hour)
		s.open(role{}, "later", nil, time.Now().Add(time.Hour))
		find("forgotten", n.access, n.token, auth.ErrNoSuchUser)
	})
}

func TestNothingAskedIsRefused(t *testing.T) {
	s := &sessions{live: map[string]*session{}}
	n := s.open(role{}, "test", nil, time.Now().Add(time.Hour))
	if _, err := s.EvaluatePolicy(n.access, n.token, nil, []string{"arn:aws:s3:::b/k"}, nil); err == nil {
		t.Error("no action was allowed")
	}
}

func TestConfig(t *testing.T) {
	good := Config{Dir: "d", S3Addr: "127.0.0.1:0", STSAddr: "[::1]:0", Issuer: "https://vault.test", Audience: "a", JWKSFile: "j"}
	if c, err := good.complete(); err != nil || c.Bucket != DefaultBucket || c.provider() != "vault.test" {
		t.Fatalf("%+v, %v", c, err)
	}
	for name, spoil := range map[string]func(*Config){
		"no directory":      func(c *Config) { c.Dir = "" },
		"no audience":       func(c *Config) { c.Audience = "" },
		"no key file":       func(c *Config) { c.JWKSFile = "" },
		"issuer is no URL":  func(c *Config) { c.Issuer = "vault.test" },
		"every interface":   func(c *Config) { c.S3Addr = ":9000" },
		"public address":    func(c *Config) { c.STSAddr = "0.0.0.0:9000" },
		"name, not address": func(c *Config) { c.S3Addr = "localhost:9000" },
		"no port":           func(c *Config) { c.S3Addr = "127.0.0.1" },
	} {
		c := good
		spoil(&c)
		if _, err := c.complete(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRolesRefuseWhatTheyCannotSplit(t *testing.T) {
	for name, doc := range map[string]string{
		"deny":       `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:GetObject","Resource":"*"}]}`,
		"wildcard":   `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`,
		"not action": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":"s3:GetObject","Resource":"*"}]}`,
		"not JSON":   `{`,
	} {
		if _, err := byAction(doc); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	foreign := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRoleWithWebIdentity"}]}`
	if _, err := identityForm(foreign, "arn:aws:iam::000000000000:oidc-provider/vault.test"); err == nil {
		t.Error("a trust policy for everybody was accepted")
	}
}
