package kmsanchor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys/erasure"
	"example.org/agentkeys/erasure/anchortest"
	"example.org/agentkeys/erasure/kmsanchor/fakekms"
	"example.org/agentkeys/erasure/wrapanchor"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

var errDied = errors.New("process: died")

// link is the way to KMS; it can be cut.
type link struct {
	next  http.RoundTripper
	mu    sync.Mutex
	n     int
	after bool
	dead  bool
}

func (l *link) cut(n int, after bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n, l.after, l.dead = n, after, false
}

func (l *link) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.n == 1
	if l.n > 0 {
		l.n--
	}
	if l.dead || last && !l.after {
		l.dead = true
		return nil, errDied
	}
	answer, err := l.next.RoundTrip(r)
	if last && err == nil {
		l.dead = true
		answer.Body.Close()
		return nil, errDied
	}
	return answer, err
}

func client(srv *httptest.Server, via http.RoundTripper) *kms.Client {
	return kms.New(kms.Options{Region: "us-east-1", BaseEndpoint: aws.String(srv.URL), RetryMaxAttempts: 1, HTTPClient: &http.Client{Transport: via},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, nil
		})})
}

type stage struct {
	fake   *fakekms.KMS
	client *kms.Client
	dir    string
	anchortest.Harness
}

func newStage(t *testing.T) *stage {
	t.Helper()
	f, err := fakekms.New()
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(f)
	srv.Listener = f.Record(srv.Listener)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	l := &link{next: srv.Client().Transport}
	s := &stage{fake: f, client: client(srv, l), dir: filepath.Join(t.TempDir(), "anchor")}
	open := func() (erasure.Anchor, error) {
		return New(Config{Client: s.client, Dir: s.dir, ID: erasure.AnchorID{1}})
	}
	a, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.(erasure.Maker).Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Harness = anchortest.Harness{Anchor: a, Reopen: open, Wire: f.Recorded, Cut: l.cut, Attack: s.attack,
		Save: func() (func() error, error) { return saveDir(t, s.dir), nil }}
	return s
}

func (s *stage) stage(t *testing.T, roots ...erasure.Root) {
	t.Helper()
	for _, root := range roots {
		if err := s.Anchor.Stage(t.Context(), root); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *stage) destroy(t *testing.T, root erasure.Root) {
	t.Helper()
	if err := s.Anchor.Destroy(t.Context(), root); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) wantRoots(t *testing.T, want ...erasure.Root) {
	t.Helper()
	if got, err := s.Anchor.Roots(t.Context()); err != nil || !slices.Equal(got, want) {
		t.Errorf("%d roots, %v, want %d", len(got), err, len(want))
	}
}

func saveDir(t *testing.T, dir string) (restore func() error) {
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return func() error { return errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(copied))) }
}

// attack has every right in the account and every byte inside TLS, a day later: it
// cancels all deletions, imports again what was imported, and tries every ciphertext
// that ever was on every key there is. Then it puts the deletions back.
func (s *stage) attack(ctx context.Context) (answers [][]byte) {
	s.fake.Advance(25 * time.Hour)
	return s.attackNow(ctx)
}

func (s *stage) attackNow(ctx context.Context) (answers [][]byte) {
	s.fake.Mu.Lock()
	var names, pending []string
	for name := range s.fake.Keys {
		names = append(names, name)
	}
	s.fake.Mu.Unlock()
	for i := range names {
		if _, err := s.client.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &names[i]}); err == nil {
			pending = append(pending, names[i])
		}
	}
	for _, r := range s.fake.Sent("ImportKeyMaterial") {
		var in fakekms.Input
		if json.Unmarshal(r.Body, &in) == nil {
			_, _ = s.client.ImportKeyMaterial(ctx, &kms.ImportKeyMaterialInput{KeyId: &in.KeyId, ImportToken: in.ImportToken,
				EncryptedKeyMaterial: in.EncryptedKeyMaterial, ExpirationModel: types.ExpirationModelType(in.ExpirationModel)})
		}
	}
	for i := range names {
		_, _ = s.client.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &names[i]})
		for _, r := range s.fake.Sent("Encrypt") {
			var in, made fakekms.Input
			if json.Unmarshal(r.Body, &in) != nil || json.Unmarshal(r.Answer, &made) != nil || in.KeyId != names[i] {
				continue // bound to its key
			}
			out, err := s.client.Decrypt(ctx, &kms.DecryptInput{KeyId: &names[i], CiphertextBlob: made.CiphertextBlob, EncryptionContext: in.EncryptionContext})
			if err == nil {
				answers = append(answers, out.Plaintext)
			}
		}
	}
	for i := range pending {
		_, _ = s.client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &pending[i], PendingWindowInDays: aws.Int32(7)})
	}
	return answers
}

func TestContract(t *testing.T) {
	anchortest.Run(t, func(t *testing.T) anchortest.Harness { return newStage(t).Harness })
}

// An attack that opens nothing proves nothing: this one opens the root held.
func TestAttackOpensThePresentRoot(t *testing.T) {
	s := newStage(t)
	root := erasure.Root{1, 2, 3}
	s.stage(t, root)
	if got := s.attack(t.Context()); len(got) != 1 || !bytes.Equal(got[0], root[:]) {
		t.Errorf("%d answers", len(got))
	}
}

// What Limit admits is true, for as long as it says.
func TestLimitKeptImport(t *testing.T) {
	old := erasure.Root{1, 2, 3}
	for name, c := range map[string]struct {
		after time.Duration
		opens bool
	}{"within 24 hours": {23 * time.Hour, true}, "later": {24*time.Hour + time.Second, false}} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.stage(t, old, erasure.Root{2})
			s.destroy(t, old)
			s.fake.Advance(c.after)
			opens := slices.ContainsFunc(s.attackNow(t.Context()), func(b []byte) bool { return bytes.Equal(b, old[:]) })
			if opens != c.opens {
				t.Errorf("the old root opens: %v", opens)
			}
		})
	}
	limit := (&Anchor{}).Limit()
	for _, word := range []string{"24 hours", "import", "AWS sees", "attested"} {
		if !strings.Contains(limit, word) {
			t.Errorf("limit does not speak of %q: %s", word, limit)
		}
	}
}

func TestMaterialIsNowhere(t *testing.T) {
	s := newStage(t)
	s.stage(t, erasure.Root{1}, erasure.Root{2})
	for name, k := range s.fake.Keys {
		for _, r := range s.fake.Requests {
			if bytes.Contains(r.Body, k.Material) || bytes.Contains(r.Answer, k.Material) {
				t.Errorf("%s shows the material of %s", r.Action, name)
			}
		}
		for _, file := range []string{"slot-a", "slot-b"} {
			b, err := os.ReadFile(filepath.Join(s.dir, file))
			if err != nil || bytes.Contains(b, k.Material) {
				t.Errorf("%s: %v, or it holds material", file, err)
			}
		}
	}
	if n := len(s.fake.Sent("ImportKeyMaterial")); n != 2 || len(s.fake.Keys) != 2 {
		t.Errorf("%d imports into %d keys, want one key and import a root", n, len(s.fake.Keys))
	}
}

func TestDestroyedKeys(t *testing.T) {
	s := newStage(t)
	s.stage(t, erasure.Root{1}, erasure.Root{2})
	s.destroy(t, erasure.Root{1})
	var empty, full int
	for _, k := range s.fake.Keys {
		switch {
		case k.Material == nil && k.DeleteAt.Equal(s.fake.Now.Add(7*24*time.Hour)):
			empty++
		case k.Material != nil && k.DeleteAt.IsZero():
			full++
		}
	}
	if empty != 1 || full != 1 || len(s.fake.Keys) != 2 {
		t.Errorf("%d empty and pending deletion, %d in use, of %d", empty, full, len(s.fake.Keys))
	}
}

// KMS may show deleted material for a while: not destroyed until it does not.
func TestEventualConsistency(t *testing.T) {
	s := newStage(t)
	s.stage(t, erasure.Root{1}, erasure.Root{2})
	s.fake.Lag = 3
	s.destroy(t, erasure.Root{1})
	s.wantRoots(t, erasure.Root{2})
	s.stage(t, erasure.Root{3})
	s.fake.Lag = 1 << 30 // never
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.Anchor.Destroy(ctx, erasure.Root{2}); err == nil {
		t.Error("calls destroyed what still decrypts")
	}
	if len(s.fake.Sent("ScheduleKeyDeletion")) != 1 {
		t.Error("a key with material is pending deletion")
	}
}

func TestKeyInOtherHands(t *testing.T) {
	for name, c := range map[string]struct {
		act  func(*stage, *string) error
		want string
	}{
		"pending deletion": {func(s *stage, id *string) error {
			_, err := s.client.ScheduleKeyDeletion(context.Background(), &kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: aws.Int32(7)})
			return err
		}, "cancel the deletion"},
		"material deleted": {func(s *stage, id *string) error {
			_, err := s.client.DeleteImportedKeyMaterial(context.Background(), &kms.DeleteImportedKeyMaterialInput{KeyId: id})
			return err
		}, "evict the anchor"},
		"disabled": {func(s *stage, id *string) error {
			s.fake.Mu.Lock()
			defer s.fake.Mu.Unlock()
			s.fake.Keys[*id].Disabled = true
			return nil
		}, "DisabledException"},
		"gone": {func(s *stage, id *string) error {
			s.fake.Mu.Lock()
			defer s.fake.Mu.Unlock()
			delete(s.fake.Keys, *id)
			return nil
		}, "evict the anchor"},
		"no right": {func(s *stage, _ *string) error {
			s.fake.Mu.Lock()
			defer s.fake.Mu.Unlock()
			s.fake.Refused["Decrypt"] = true
			return nil
		}, "AccessDenied"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.stage(t, erasure.Root{1})
			var id string
			for id = range s.fake.Keys {
			}
			if err := c.act(s, &id); err != nil {
				t.Fatal(err)
			}
			if roots, err := s.Anchor.Roots(t.Context()); len(roots) != 0 || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Roots: %d, %v", len(roots), err)
			}
			if err := s.Anchor.Stage(t.Context(), erasure.Root{2}); err == nil {
				t.Error("Stage goes on")
			}
		})
	}
}

// A deletion that somebody scheduled, and one that an earlier try scheduled, do not
// keep Destroy from emptying the key.
func TestDestroyOfAPendingKey(t *testing.T) {
	s := newStage(t)
	k := &keys{client: s.client, context: map[string]string{contextKey: "01"}}
	name, err := k.Name(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	blob, err := k.Seal(t.Context(), name, erasure.Root{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &name, PendingWindowInDays: aws.Int32(7)}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := k.Destroy(t.Context(), name, blob); err != nil {
			t.Fatal(err)
		}
	}
	if s.fake.Keys[name].Material != nil {
		t.Error("the material is still there")
	}
	s.fake.Advance(8 * 24 * time.Hour)
	if err := k.Destroy(t.Context(), name, blob); err != nil {
		t.Errorf("of a key that is deleted: %v", err)
	}
	if _, err := k.Open(t.Context(), name, blob); !errors.Is(err, wrapanchor.ErrGone) {
		t.Errorf("Open: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{"no client": {Dir: t.TempDir()}, "no directory": {Client: kms.New(kms.Options{Region: "x"})}} {
		if _, err := New(cfg); err == nil {
			t.Error(name)
		}
	}
	if a := (&Anchor{}); a.Kind() != "kms" {
		t.Error(a.Kind())
	}
}
