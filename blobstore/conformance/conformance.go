// Package conformance is the test suite that every object store must pass before a
// vault may use it: isolation, conditional writes, sessions, emptying. Rules and
// names: docs/spec/store.md.
//
// A store's own test package calls [Run] with a [Target].
package conformance

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"example.org/agentkeys"
	"example.org/agentkeys/blobstore"
)

// Target is a running store that knows Issuer's key.
type Target struct {
	Config blobstore.Config
	Issuer *Issuer
	// Versioned says that the bucket keeps versions.
	Versioned bool
	// Stop makes the store unreachable and Start brings it back at the same
	// address with the same objects, its sessions forgotten. Nil skips outages.
	Stop, Start func(testing.TB)
}

// Run runs the suite. Objects stay under fresh random users.
func Run(t *testing.T, target Target) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"put get", putGet},
		{"conditional put", conditionalPut},
		{"concurrent put has one winner", concurrentPut},
		{"list", list},
		{"delete", deleteObjects},
		{"empty prefix", emptyPrefix},
		{"more than a page", pages},
		{"system objects", systemObjects},
		{"users are isolated", usersIsolated},
		{"courier reads and writes only", courierRights},
		{"custodian role stays off users", custodianRights},
		{"user role stays off system", userOffSystem},
		{"anonymous and forged requests", strangers},
		{"tokens", tokens},
		{"outage and lost sessions", outage},
	} {
		t.Run(test.name, func(t *testing.T) {
			store, err := blobstore.New(target.Config, target.Issuer)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(store.Close)
			test.run(t, &bench{target, store})
		})
	}
}

// bench is what one test works with.
type bench struct {
	Target
	store *blobstore.Store
}

const limit = 1 << 20

func wallet(t testing.TB) (w agentkeys.Wallet) {
	t.Helper()
	fill(t, w[:])
	return w
}

func fill(t testing.TB, b []byte) []byte {
	t.Helper()
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// key names a fresh blob of a user.
func key(t testing.TB, user agentkeys.Wallet, epoch agentkeys.Epoch) string {
	t.Helper()
	var service agentkeys.ServiceID
	var blob agentkeys.BlobID
	fill(t, service[:])
	fill(t, blob[:])
	return blobstore.Key(user, epoch, service, blob)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// raw is a plain S3 client in a session, for requests that the store client would
// never make.
func raw(s blobstore.Session) *s3.Client {
	return rawWith(s, credentials.NewStaticCredentialsProvider(s.AccessKey, s.Secret, s.SessionToken))
}

func rawWith(s blobstore.Session, p aws.CredentialsProvider) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(s.Endpoint), Region: s.Region, UsePathStyle: true, Credentials: p,
		Retryer: aws.NopRetryer{}, RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		HTTPClient: &http.Client{},
	})
}

// session takes a role directly from STS.
func (b *bench) session(t testing.TB, user agentkeys.Wallet, role blobstore.Role) blobstore.Session {
	t.Helper()
	token, err := b.Issuer.Token(t.Context(), user, role)
	must(t, err)
	s, err := b.assume(t.Context(), role, token)
	must(t, err)
	return s
}

func count(t testing.TB, rows func(func(blobstore.Object, error) bool)) []string {
	t.Helper()
	var keys []string
	for o, err := range rows {
		must(t, err)
		keys = append(keys, o.Key)
	}
	return keys
}

func (b *bench) fillEpoch(ctx context.Context, t testing.TB, user agentkeys.Wallet, epoch agentkeys.Epoch, n int) []string {
	t.Helper()
	keys := make([]string, n)
	for i := range keys {
		keys[i] = key(t, user, epoch)
		must(t, b.store.Put(ctx, user, keys[i], fmt.Appendf(nil, "object %d", i)))
	}
	return keys
}
