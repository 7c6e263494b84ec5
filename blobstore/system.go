package blobstore

import (
	"context"
	"iter"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// The prefixes of the custodian role. No user can be named like them: a user's
// prefix begins with 0x.
const (
	TreePrefix  = "tree/"  // share trees
	AuditPrefix = "audit/" // sealed read segments
	ProbePrefix = "probe/" // write-and-read-back checks of a starting custodian
)

// System is what belongs to no user: objects under tree/, audit/ and probe/. The
// rules of each method are those of [Store].
type System struct{ area area }

// System gives the custodian's own objects.
func (s *Store) System() System {
	return System{s.area(sessionKey{role: RoleCustodian}, TreePrefix, AuditPrefix, ProbePrefix)}
}

// Credentials are those of the custodian's own session, for what else its role may do.
func (s *Store) Credentials() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		c, err := s.sessions.get(ctx, sessionKey{role: RoleCustodian}, expiryMargin)
		if err != nil {
			return aws.Credentials{}, err
		}
		return c.provider.Retrieve(ctx)
	})
}

// Get returns an object, at most maxBytes long.
func (s System) Get(ctx context.Context, key string, maxBytes int64) ([]byte, error) {
	return s.area.get(ctx, key, maxBytes)
}

// Put writes an object that must not exist yet.
func (s System) Put(ctx context.Context, key string, body []byte) error {
	return s.area.put(ctx, key, body)
}

// Delete removes objects with all their versions.
func (s System) Delete(ctx context.Context, keys ...string) error { return s.area.delete(ctx, keys) }

// List walks the objects under prefix in key order.
func (s System) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return s.area.list(ctx, prefix)
}
