package blobstore_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/blobstore"
)

// cloud is a small S3 and STS in memory: objects, sessions that can be forgotten,
// and one answer that a test may put in place of the real one.
type cloud struct {
	*httptest.Server

	mu        sync.Mutex
	objects   map[string][]byte
	sessions  map[string]bool
	exchanges int
	life      time.Duration
	refuseSTS int                                           // status, 0 is none
	answer    func(http.ResponseWriter, *http.Request) bool // true: answered
}

func newFake(t testing.TB) *cloud {
	t.Helper()
	c := &cloud{objects: map[string][]byte{}, sessions: map[string]bool{}, life: time.Hour}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *cloud) store(t testing.TB, max int) *blobstore.Store {
	t.Helper()
	s, err := blobstore.New(blobstore.Config{
		Endpoint: c.URL, STSEndpoint: c.URL + "/sts", Region: "us-east-1", Bucket: "vault", Account: "000000000000", MaxSessions: max,
	}, minter{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// minter signs nothing: this STS takes any token.
type minter struct{}

func (minter) Token(_ context.Context, user agentkeys.Wallet, role blobstore.Role) (string, error) {
	if role.Tagged() == user.IsZero() {
		return "", errors.New("a token needs a wallet exactly if its role is tagged")
	}
	return string(role) + user.String(), nil
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasPrefix(r.URL.Path, "/sts") {
		c.assume(w)
		return
	}
	access := strings.TrimPrefix(strings.SplitN(r.Header.Get("Authorization"), "/", 2)[0], "AWS4-HMAC-SHA256 Credential=")
	if !c.sessions[access] {
		fail(w, http.StatusForbidden, "InvalidAccessKeyId")
		return
	}
	if c.answer != nil && c.answer(w, r) {
		return
	}
	c.object(w, r, strings.TrimPrefix(r.URL.Path, "/vault/"))
}

func (c *cloud) assume(w http.ResponseWriter) {
	if c.refuseSTS != 0 {
		w.WriteHeader(c.refuseSTS)
		return
	}
	c.exchanges++
	access := fmt.Sprintf("ASIA%d", c.exchanges)
	c.sessions[access] = true
	fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
		access, time.Now().Add(c.life).UTC().Format(time.RFC3339))
}

func (c *cloud) object(w http.ResponseWriter, r *http.Request, key string) {
	body, ok := c.objects[key]
	switch {
	case r.Method == http.MethodPut && ok && r.Header.Get("If-None-Match") == "*":
		fail(w, http.StatusPreconditionFailed, "PreconditionFailed")
	case r.Method == http.MethodPut:
		b := make([]byte, r.ContentLength)
		_, _ = r.Body.Read(b)
		c.objects[key] = b
	case r.Method == http.MethodDelete:
		delete(c.objects, key)
		w.WriteHeader(http.StatusNoContent)
	case ok:
		_, _ = w.Write(body)
	default:
		fail(w, http.StatusNotFound, "NoSuchKey")
	}
}

// with sets the fake's state under its lock.
func (c *cloud) with(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

func (c *cloud) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exchanges
}

func fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	if code != "" {
		fmt.Fprintf(w, `<Error><Code>%s</Code><Message>m</Message></Error>`, code)
	}
}
