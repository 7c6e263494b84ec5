package blobstore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/blobstore"
)

var (
	alice = agentkeys.Wallet{0xa1}
	key1  = blobstore.Key(alice, 1, agentkeys.ServiceID{1}, agentkeys.BlobID{1})
)

var sentinels = []error{
	blobstore.ErrNotFound, blobstore.ErrExists, blobstore.ErrUnavailable, blobstore.ErrDenied,
	blobstore.ErrSession, blobstore.ErrTooLarge, blobstore.ErrKey,
}

// only demands that an error is want and none of the other sentinels.
func only(t *testing.T, what string, err, want error) {
	t.Helper()
	for _, s := range sentinels {
		if errors.Is(err, s) != (s == want) {
			t.Errorf("%s: %v: is %q: %t", what, err, s, errors.Is(err, s))
		}
	}
}

func TestAnswers(t *testing.T) {
	status := func(status int, code string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Has("list-type") {
				fmt.Fprint(w, `<ListBucketResult><Contents><Key>`+key1+`</Key></Contents></ListBucketResult>`)
				return true
			}
			fail(w, status, code)
			return true
		}
	}
	for _, test := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request) bool
		want   error
	}{
		{"no such key", status(404, "NoSuchKey"), blobstore.ErrNotFound},
		{"no such bucket", status(404, "NoSuchBucket"), blobstore.ErrUnavailable},
		{"404 of a proxy", status(404, ""), blobstore.ErrUnavailable},
		{"404 with an unknown code", status(404, "NoSuchThing"), blobstore.ErrUnavailable},
		{"500", status(500, "InternalError"), blobstore.ErrUnavailable},
		{"503", status(503, "SlowDown"), blobstore.ErrUnavailable},
		{"502 of a proxy", status(502, ""), blobstore.ErrUnavailable},
		{"conflict", status(409, "ConditionalRequestConflict"), blobstore.ErrUnavailable},
		{"clock", status(403, "RequestTimeTooSkewed"), blobstore.ErrUnavailable},
		{"denied although there", status(403, "AccessDenied"), blobstore.ErrDenied},
		{"403 without a code", status(403, ""), blobstore.ErrDenied},
		{"session lost twice", status(403, "InvalidAccessKeyId"), blobstore.ErrSession},
		{"session over twice", status(400, "ExpiredToken"), blobstore.ErrSession},
		{"refused for good", status(400, "InvalidArgument"), nil},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("short"))
			return true
		}, blobstore.ErrUnavailable},
		{"too long", func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write(make([]byte, 101))
			return true
		}, blobstore.ErrTooLarge},
	} {
		fake := newFake(t)
		fake.answer = test.answer
		body, err := fake.store(t, 0).Get(t.Context(), alice, key1, 100)
		if err == nil || body != nil {
			t.Errorf("%s: %d bytes, error %v", test.name, len(body), err)
		}
		only(t, test.name, err, test.want)
	}
}

// S3 answers 403 for a missing object to whoever may list only below a prefix.
func TestDeniedIsAbsentOnlyIfTheListingSaysSo(t *testing.T) {
	for _, test := range []struct {
		name, listing string
		status        int
		want          error
	}{
		{"not listed", ``, 200, blobstore.ErrNotFound},
		{"longer key listed", `<Contents><Key>` + key1 + `.tmp</Key></Contents>`, 200, blobstore.ErrNotFound},
		{"listed", `<Contents><Key>` + key1 + `</Key></Contents>`, 200, blobstore.ErrDenied},
		{"listing fails", ``, 500, blobstore.ErrDenied},
		{"listing refused", ``, 403, blobstore.ErrDenied},
	} {
		fake := newFake(t)
		fake.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if !r.URL.Query().Has("list-type") {
				fail(w, 403, "AccessDenied")
				return true
			}
			w.WriteHeader(test.status)
			fmt.Fprint(w, `<ListBucketResult>`+test.listing+`</ListBucketResult>`)
			return true
		}
		_, err := fake.store(t, 0).Get(t.Context(), alice, key1, 100)
		only(t, test.name, err, test.want)
	}
}

func TestKeysOutsideTheOwnPrefixMakeNoRequest(t *testing.T) {
	fake := newFake(t)
	store := fake.store(t, 0)
	bob := agentkeys.Wallet{0xb0}
	foreign := blobstore.Key(bob, 1, agentkeys.ServiceID{}, agentkeys.BlobID{})
	_, err := store.Get(t.Context(), alice, foreign, 1)
	only(t, "get", err, blobstore.ErrKey)
	only(t, "put", store.Put(t.Context(), alice, foreign, nil), blobstore.ErrKey)
	only(t, "delete", store.Delete(t.Context(), alice, key1, foreign), blobstore.ErrKey)
	for _, err := range store.List(t.Context(), alice, bob.String()) {
		only(t, "list", err, blobstore.ErrKey)
	}
	for _, k := range []string{key1, "", "treehouse", "audit"} {
		only(t, "system put "+k, store.System().Put(t.Context(), k, nil), blobstore.ErrKey)
	}
	if n := fake.count(); n != 0 {
		t.Errorf("%d exchanges", n)
	}
}

func TestLostSessionsAreReplacedOnce(t *testing.T) {
	fake := newFake(t)
	store := fake.store(t, 0)
	if err := store.Put(t.Context(), alice, key1, []byte("x")); err != nil {
		t.Fatal(err)
	}
	fake.with(func() { clear(fake.sessions) })
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got, err := store.Get(t.Context(), alice, key1, 10); err != nil || string(got) != "x" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if n := fake.count(); n != 2 {
		t.Errorf("%d exchanges, want 2: the first and one for all", n)
	}
}

func TestSessionCache(t *testing.T) {
	fake := newFake(t)
	store := fake.store(t, 3)
	get := func(b byte) {
		t.Helper()
		user := agentkeys.Wallet{b}
		_, err := store.Get(t.Context(), user, blobstore.Key(user, 1, agentkeys.ServiceID{}, agentkeys.BlobID{}), 1)
		only(t, "get", err, blobstore.ErrNotFound)
	}
	for _, step := range []struct {
		user      byte
		exchanges int
	}{{1, 1}, {2, 2}, {3, 3}, {1, 3}, {4, 4}, {1, 4}, {3, 4}, {2, 5}, {4, 6}} {
		get(step.user)
		if n := fake.count(); n != step.exchanges {
			t.Fatalf("after user %d: %d exchanges, want %d", step.user, n, step.exchanges)
		}
	}
}

func TestShortSessionsAreRenewed(t *testing.T) {
	fake := newFake(t)
	fake.life = 20 * time.Second // inside the margin: never good enough to reuse
	store := fake.store(t, 0)
	for want := 1; want <= 3; want++ {
		_, err := store.Get(t.Context(), alice, key1, 1)
		only(t, "get", err, blobstore.ErrNotFound)
		if n := fake.count(); n != want {
			t.Fatalf("%d exchanges, want %d", n, want)
		}
	}
	fake.with(func() { fake.refuseSTS = 503 })
	_, err := store.Get(t.Context(), alice, key1, 1)
	only(t, "get without STS", err, blobstore.ErrUnavailable)
	fake.with(func() { fake.refuseSTS = 403 })
	_, err = store.Get(t.Context(), alice, key1, 1)
	only(t, "get refused by STS", err, blobstore.ErrDenied)
}

// A store that started anew does not know the sessions of before; what a courier is given
// then works.
func TestCourierSessionIsAlwaysNew(t *testing.T) {
	fake := newFake(t)
	store := fake.store(t, 0)
	before, err := store.CourierSession(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	fake.mu.Lock()
	clear(fake.sessions)
	fake.mu.Unlock()
	after, err := store.CourierSession(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	fake.mu.Lock()
	defer fake.mu.Unlock()
	if fake.sessions[before.AccessKey] || !fake.sessions[after.AccessKey] {
		t.Errorf("the store knows %v; handed out %s, then %s", fake.sessions, before.AccessKey, after.AccessKey)
	}
}

func TestCancelledWaitersLeave(t *testing.T) {
	fake := newFake(t)
	store := fake.store(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := store.Get(ctx, alice, key1, 1)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, blobstore.ErrUnavailable) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := store.Get(t.Context(), alice, key1, 1); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("after a cancelled caller: %v", err)
	}
}

func TestSessionPrintsNoCredentials(t *testing.T) {
	s := blobstore.Session{Endpoint: "http://e", Bucket: "vault", AccessKey: "AKCANARY", Secret: "SECRETCANARY", SessionToken: "TOKENCANARY"}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb, s)
		fmt.Fprintf(&out, verb, &s)
		fmt.Fprintf(&out, verb, []blobstore.Session{s})
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "session", s)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "session", s)
	if strings.Contains(out.String(), "CANARY") {
		t.Errorf("printed %s", out.String())
	}
	b, err := json.Marshal(s)
	var back blobstore.Session
	if err == nil {
		err = json.Unmarshal(b, &back)
	}
	if err != nil || back != s {
		t.Errorf("JSON round trip: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	good := blobstore.Config{Region: "r", Bucket: "b", Account: "123456789012"}
	for name, spoil := range map[string]func(*blobstore.Config){
		"no bucket":     func(c *blobstore.Config) { c.Bucket = "" },
		"no region":     func(c *blobstore.Config) { c.Region = "" },
		"short account": func(c *blobstore.Config) { c.Account = "1" },
		"short life":    func(c *blobstore.Config) { c.SessionLife = time.Minute },
		"long life":     func(c *blobstore.Config) { c.SessionLife = 2 * time.Hour },
	} {
		c := good
		spoil(&c)
		if _, err := blobstore.New(c, minter{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := blobstore.NewCourier(blobstore.Session{Bucket: "b"}, nil); err == nil {
		t.Error("a courier without credentials was made")
	}
}

// Somebody keeps filling the prefix of a destroyed epoch: emptying it comes to an end and
// says what is left.
func TestFilledPrefixEnds(t *testing.T) {
	fake := newFake(t)
	listed := 0
	fake.answer = func(w http.ResponseWriter, r *http.Request) bool {
		q := r.URL.Query()
		switch {
		case q.Has("uploads"):
			fmt.Fprint(w, `<ListMultipartUploadsResult></ListMultipartUploadsResult>`)
		case q.Has("versions"):
			listed++
			fmt.Fprintf(w, `<ListVersionsResult><Version><Key>%s%d</Key><VersionId>v</VersionId></Version></ListVersionsResult>`, key1, listed)
		case q.Has("delete"):
			fmt.Fprint(w, `<DeleteResult></DeleteResult>`)
		default:
			return false
		}
		return true
	}
	done, err := fake.store(t, 0).EmptyPrefix(t.Context(), alice, 1)
	if err != nil || len(done.Left) != 1 || done.Versions == 0 || listed > 1000 {
		t.Errorf("%+v, %v after %d pages", done, err, listed)
	}
}
