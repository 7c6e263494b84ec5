package blobstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"example.org/agentkeys"
)

// Exchange mints the OIDC token that STS trades for a session: subject
// [Role.Subject] and, for a tagged role, the wallet under [TagsClaim]. user is
// the zero wallet for [RoleCustodian].
type Exchange interface {
	Token(ctx context.Context, user agentkeys.Wallet, role Role) (string, error)
}

// Config says where the store is. Endpoint and STSEndpoint may be empty for
// AWS's own.
type Config struct {
	Endpoint    string
	STSEndpoint string
	Region      string
	Bucket      string
	Account     string        // 12 digits, see [Role.ARN]
	SessionLife time.Duration // 15 min to 1 h; 0 is 1 h
	MaxSessions int           // 0 is 4,096
	Client      *http.Client  // nil is a client tuned for many connections
}

const (
	courierLife = 15 * time.Minute // the shortest that AWS allows
	defaultLife = time.Hour
	defaultMax  = 4096
)

// Store is the custodian's client. It is safe for concurrent use and owns no
// durable state; sessions live in memory.
type Store struct {
	cfg      Config
	exchange Exchange
	s3       *s3.Client
	sts      *sts.Client
	sessions *sessions
}

// New makes a store client. It makes no request.
func New(cfg Config, exchange Exchange) (*Store, error) {
	switch {
	case cfg.Bucket == "" || cfg.Region == "":
		return nil, errors.New("store config: bucket and region are needed")
	case len(cfg.Account) != 12:
		return nil, errors.New("store config: account must have 12 digits")
	case cfg.SessionLife != 0 && (cfg.SessionLife < courierLife || cfg.SessionLife > defaultLife):
		return nil, errors.New("store config: session life must be 15 min to 1 h")
	}
	if cfg.SessionLife == 0 {
		cfg.SessionLife = defaultLife
	}
	if cfg.MaxSessions <= 0 {
		cfg.MaxSessions = defaultMax
	}
	if cfg.Client == nil {
		cfg.Client = newHTTPClient()
	}
	s := &Store{
		cfg: cfg, exchange: exchange,
		s3:  newS3(cfg.Endpoint, cfg.Region, cfg.Client),
		sts: newSTS(cfg.STSEndpoint, cfg.Region, cfg.Client),
	}
	s.sessions = newSessions(cfg.MaxSessions, s.assume)
	return s, nil
}

// Close drops idle connections.
func (s *Store) Close() { s.cfg.Client.CloseIdleConnections() }

// Get returns the object under one of the user's keys, at most maxBytes long.
func (s *Store) Get(ctx context.Context, user agentkeys.Wallet, key string, maxBytes int64) ([]byte, error) {
	return s.of(user).get(ctx, key, maxBytes)
}

// Put writes an object under one of the user's keys and returns once the store
// has it durably. It never replaces one: [ErrExists]. After [ErrUnavailable] the
// object may or may not be there; putting the same key again tells.
func (s *Store) Put(ctx context.Context, user agentkeys.Wallet, key string, body []byte) error {
	return s.of(user).put(ctx, key, body)
}

// Delete removes objects with all their versions. Deleting what is not there is
// no error, so a retry is safe.
func (s *Store) Delete(ctx context.Context, user agentkeys.Wallet, keys ...string) error {
	return s.of(user).delete(ctx, keys)
}

// List walks the user's objects under prefix in key order, a page at a time. It
// stops after the first error.
func (s *Store) List(ctx context.Context, user agentkeys.Wallet, prefix string) iter.Seq2[Object, error] {
	return s.of(user).list(ctx, prefix)
}

// CourierSession returns credentials that read and write under the user's prefix,
// and nothing else. Each call is an exchange: a store that started anew does not know the
// sessions of before, and a courier cannot get itself another one.
func (s *Store) CourierSession(ctx context.Context, user agentkeys.Wallet) (Session, error) {
	return s.sessions.exchange(ctx, sessionKey{RoleCourier, user})
}

func (s *Store) of(user agentkeys.Wallet) area {
	return s.area(sessionKey{RoleUser, user}, UserPrefix(user))
}

func (s *Store) area(k sessionKey, prefixes ...string) area {
	return area{s3: s.s3, bucket: s.cfg.Bucket, prefixes: prefixes, lists: true, run: s.runner(k)}
}

// runner runs an operation in a session of k. A store that restarted has forgotten
// its sessions: one new exchange, one retry, since nothing was done for the old one.
func (s *Store) runner(k sessionKey) runner {
	return func(ctx context.Context, op operation) error {
		c, err := s.sessions.get(ctx, k, expiryMargin)
		if err != nil {
			return err
		}
		err = op(c.provider)
		if !errors.Is(err, ErrSession) {
			return err
		}
		s.sessions.drop(k, c)
		if c, err = s.sessions.get(ctx, k, expiryMargin); err != nil {
			return err
		}
		return op(c.provider)
	}
}

// assume trades one token for one session.
func (s *Store) assume(ctx context.Context, k sessionKey) (Session, error) {
	token, err := s.exchange.Token(ctx, k.user, k.role)
	if err != nil {
		return Session{}, fmt.Errorf("store session: mint token: %w", err)
	}
	life := s.cfg.SessionLife
	if k.role == RoleCourier {
		life = courierLife
	}
	out, err := s.sts.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
		RoleArn:          aws.String(k.role.ARN(s.cfg.Account)),
		RoleSessionName:  aws.String(sessionName(k)),
		WebIdentityToken: &token,
		DurationSeconds:  aws.Int32(int32(life / time.Second)),
	})
	if err != nil {
		return Session{}, classify("store session", err)
	}
	c := out.Credentials
	if c == nil || c.AccessKeyId == nil || c.SecretAccessKey == nil || c.SessionToken == nil || c.Expiration == nil {
		return Session{}, fmt.Errorf("store session: %w: incomplete answer", ErrUnavailable)
	}
	return Session{
		Endpoint: s.cfg.Endpoint, Region: s.cfg.Region, Bucket: s.cfg.Bucket,
		AccessKey: *c.AccessKeyId, Secret: *c.SecretAccessKey, SessionToken: *c.SessionToken, Expiry: *c.Expiration,
	}, nil
}

// sessionName is what the store's access log shows.
func sessionName(k sessionKey) string {
	if k.role.Tagged() {
		return string(k.role) + "-" + k.user.String()
	}
	return string(k.role)
}
