package devcloud

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/s3err"
)

// session is what STS handed out. Its fields never change.
type session struct {
	access, secret, token string
	arn                   string // of the assumed role session
	role                  role
	tags                  map[string]string
	expiry                time.Time
}

// sessions is the IAM service that the gateway asks. Everything is in memory: a
// restart forgets all sessions, and clients come back with a new token.
type sessions struct {
	mu   sync.RWMutex
	live map[string]*session
}

// open makes a session and forgets those that ended.
func (s *sessions) open(r role, name string, tags map[string]string, expiry time.Time) *session {
	_, roleName, _ := strings.Cut(r.arn, "role/")
	n := &session{
		access: "ASIA" + random(8), secret: random(20), token: random(64),
		arn:  "arn:aws:sts::" + Account + ":assumed-role/" + roleName + "/" + name,
		role: r, tags: tags, expiry: expiry,
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, old := range s.live {
		if now.After(old.expiry.Add(time.Hour)) {
			delete(s.live, k)
		}
	}
	s.live[n.access] = n
	return n
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return strings.ToUpper(hex.EncodeToString(b))
}

var errExpired = s3err.APIError{
	Code: "ExpiredToken", Description: "The provided token has expired.", HTTPStatusCode: http.StatusBadRequest,
}

// find returns a session whose token is right and whose time is not over.
func (s *sessions) find(access, token string) (*session, error) {
	s.mu.RLock()
	n, ok := s.live[access]
	s.mu.RUnlock()
	switch {
	case !ok:
		return nil, auth.ErrNoSuchUser
	case subtle.ConstantTimeCompare([]byte(n.token), []byte(token)) != 1:
		return nil, auth.ErrInvalidSessionToken
	case !time.Now().Before(n.expiry):
		return nil, errExpired
	}
	return n, nil
}

// DeriveSigningKey gives the gateway the SigV4 key of a session.
func (s *sessions) DeriveSigningKey(access, token, date, region, service string) ([]byte, auth.Account, error) {
	n, err := s.find(access, token)
	if err != nil {
		return nil, auth.Account{}, err
	}
	key := []byte("AWS4" + n.secret)
	for _, part := range []string{date, region, service, "aws4_request"} {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(part))
		key = m.Sum(nil)
	}
	return key, auth.Account{
		Access: access, Role: auth.RoleUser, Arn: n.arn, RoleArn: n.role.arn, IsSession: true, SessionToken: token,
	}, nil
}

// The rest of auth.IAMService manages accounts, of which devcloud has none.
var errAccounts = errors.New("accounts: devcloud has roles only")

func (s *sessions) CreateAccount(auth.Account) error { return errAccounts }
func (s *sessions) GetUserAccount(string) (auth.Account, error) {
	return auth.Account{}, auth.ErrNoSuchUser
}
func (s *sessions) ResolveAccounts(ids []string) ([]string, error)    { return ids, nil }
func (s *sessions) UpdateUserAccount(string, auth.MutableProps) error { return errAccounts }
func (s *sessions) DeleteUserAccount(string) error                    { return errAccounts }
func (s *sessions) ListUserAccounts() ([]auth.Account, error)         { return nil, nil }
func (s *sessions) Shutdown() error                                   { return nil }
