package conformance

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"example.org/agentkeys/blobstore"
)

func putGet(t *testing.T, b *bench) {
	user := wallet(t)
	for _, size := range []int{0, 1, 1024, 64 << 10, 64<<10 + 4096} {
		k, body := key(t, user, 1), fill(t, make([]byte, size))
		must(t, b.store.Put(t.Context(), user, k, body))
		got, err := b.store.Get(t.Context(), user, k, limit)
		must(t, err)
		if !bytes.Equal(got, body) {
			t.Fatalf("%d bytes came back as %d others", size, len(got))
		}
		if _, err := b.store.Get(t.Context(), user, k, int64(size)-1); !errors.Is(err, blobstore.ErrTooLarge) {
			t.Fatalf("limit below %d bytes: %v", size, err)
		}
	}
	if _, err := b.store.Get(t.Context(), user, key(t, user, 1), limit); !errors.Is(err, blobstore.ErrNotFound) {
		t.Fatalf("missing object: %v", err)
	}
}

func conditionalPut(t *testing.T, b *bench) {
	user := wallet(t)
	k := key(t, user, 1)
	must(t, b.store.Put(t.Context(), user, k, []byte("first")))
	if err := b.store.Put(t.Context(), user, k, []byte("second")); !errors.Is(err, blobstore.ErrExists) {
		t.Fatalf("second put: %v", err)
	}
	got, err := b.store.Get(t.Context(), user, k, limit)
	must(t, err)
	if string(got) != "first" {
		t.Fatalf("object was replaced by %q", got)
	}
}

func concurrentPut(t *testing.T, b *bench) {
	user := wallet(t)
	for range 5 {
		k := key(t, user, 1)
		errs := make([]error, 16)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = b.store.Put(t.Context(), user, k, []byte{byte(i)}) })
		}
		wg.Wait()
		winner := slices.Index(errs, nil)
		for i, err := range errs {
			if i != winner && !errors.Is(err, blobstore.ErrExists) {
				t.Fatalf("writer %d beside winner %d: %v", i, winner, err)
			}
		}
		got, err := b.store.Get(t.Context(), user, k, limit)
		must(t, err)
		if len(got) != 1 || int(got[0]) != winner {
			t.Fatalf("winner %d, object %v", winner, got)
		}
	}
}

func list(t *testing.T, b *bench) {
	user := wallet(t)
	want := append(b.fillEpoch(t.Context(), t, user, 1, 3), b.fillEpoch(t.Context(), t, user, 2, 4)...)
	slices.Sort(want)
	if got := count(t, b.store.List(t.Context(), user, blobstore.UserPrefix(user))); !slices.Equal(got, want) {
		t.Fatalf("listed %d objects, want %d in order", len(got), len(want))
	}
	if got := count(t, b.store.List(t.Context(), user, blobstore.EpochPrefix(user, 2))); len(got) != 4 {
		t.Fatalf("epoch 2 lists %d objects, want 4", len(got))
	}
	if got := count(t, b.store.List(t.Context(), user, blobstore.EpochPrefix(user, 3))); len(got) != 0 {
		t.Fatalf("epoch 3 lists %v", got)
	}
}

func deleteObjects(t *testing.T, b *bench) {
	user := wallet(t)
	keys := b.fillEpoch(t.Context(), t, user, 1, 6)
	must(t, b.store.Delete(t.Context(), user, keys[0]))
	must(t, b.store.Delete(t.Context(), user, keys[0]))
	must(t, b.store.Delete(t.Context(), user, keys[1:4]...))
	for i, k := range keys {
		_, err := b.store.Get(t.Context(), user, k, limit)
		if deleted := i < 4; deleted != errors.Is(err, blobstore.ErrNotFound) || !deleted && err != nil {
			t.Fatalf("object %d: %v", i, err)
		}
	}
	if got := b.versions(t, b.session(t, user, blobstore.RoleUser), blobstore.UserPrefix(user)); got != 2 {
		t.Fatalf("%d versions and markers remain, want those of 2 objects", got)
	}
}

// versions counts all versions and delete markers under a prefix.
func (b *bench) versions(t testing.TB, s blobstore.Session, prefix string) int {
	t.Helper()
	page, err := raw(s).ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: &s.Bucket, Prefix: &prefix})
	must(t, err)
	return len(page.Versions) + len(page.DeleteMarkers)
}

func emptyPrefix(t *testing.T, b *bench) {
	user := wallet(t)
	keys := b.fillEpoch(t.Context(), t, user, 7, 5)
	kept := b.fillEpoch(t.Context(), t, user, 8, 1)
	own := b.session(t, user, blobstore.RoleUser)
	c := raw(own)
	// Junk of every kind: an overwritten object, a plain delete, an unfinished upload.
	_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &own.Bucket, Key: &keys[0], Body: bytes.NewReader([]byte("again"))})
	must(t, err)
	_, err = c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &own.Bucket, Key: &keys[1]})
	must(t, err)
	_, err = c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &own.Bucket, Key: aws.String(key(t, user, 7))})
	must(t, err)

	done, err := b.store.EmptyPrefix(t.Context(), user, 7)
	must(t, err)
	want := blobstore.Emptied{Versions: 4, Uploads: 1}
	if b.Versioned {
		want = blobstore.Emptied{Versions: 6, Markers: 1, Uploads: 1}
	}
	if done.Versions != want.Versions || done.Markers != want.Markers || done.Uploads != want.Uploads || len(done.Left) != 0 {
		t.Fatalf("emptied %+v, want %+v", done, want)
	}
	if got := b.versions(t, own, blobstore.EpochPrefix(user, 7)); got != 0 {
		t.Fatalf("%d versions and markers remain", got)
	}
	again, err := b.store.EmptyPrefix(t.Context(), user, 7)
	must(t, err)
	if again.Versions+again.Markers+again.Uploads+len(again.Left) != 0 {
		t.Fatalf("emptied twice: %+v", again)
	}
	_, err = b.store.Get(t.Context(), user, kept[0], limit)
	must(t, err)
}

// pages has more objects than S3 lists or deletes in one request.
func pages(t *testing.T, b *bench) {
	if testing.Short() {
		t.Skip("a thousand objects take a while")
	}
	const n, writers = 1010, 8
	user := wallet(t)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range (n - w + writers - 1) / writers {
				if err := b.store.Put(t.Context(), user, key(t, user, 1), nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	keys := count(t, b.store.List(t.Context(), user, blobstore.UserPrefix(user)))
	if len(keys) != n || !slices.IsSorted(keys) || len(slices.Compact(keys)) != n {
		t.Fatalf("listed %d objects, want %d in order", len(keys), n)
	}
	must(t, b.store.Delete(t.Context(), user, keys[:1005]...))
	done, err := b.store.EmptyPrefix(t.Context(), user, 1)
	must(t, err)
	if done.Versions != n-1005 || done.Markers+len(done.Left) != 0 {
		t.Fatalf("after deleting 1005 of %d: emptied %+v", n, done)
	}
}

func systemObjects(t *testing.T, b *bench) {
	sys := b.store.System()
	for _, prefix := range []string{blobstore.TreePrefix, blobstore.AuditPrefix, blobstore.ProbePrefix} {
		k := prefix + wallet(t).String() + "/one"
		must(t, sys.Put(t.Context(), k, []byte(prefix)))
		if err := sys.Put(t.Context(), k, []byte("other")); !errors.Is(err, blobstore.ErrExists) {
			t.Fatalf("%s: second put: %v", prefix, err)
		}
		got, err := sys.Get(t.Context(), k, limit)
		must(t, err)
		if string(got) != prefix {
			t.Fatalf("%s came back as %q", prefix, got)
		}
		if keys := count(t, sys.List(t.Context(), k)); len(keys) != 1 {
			t.Fatalf("%s lists %v", prefix, keys)
		}
		must(t, sys.Delete(t.Context(), k))
		if _, err := sys.Get(t.Context(), k, limit); !errors.Is(err, blobstore.ErrNotFound) {
			t.Fatalf("%s after delete: %v", prefix, err)
		}
	}
	both := []string{blobstore.TreePrefix + wallet(t).String(), blobstore.AuditPrefix + wallet(t).String()}
	for _, k := range both {
		must(t, sys.Put(t.Context(), k, nil))
	}
	must(t, sys.Delete(t.Context(), both...))
	s := b.session(t, wallet(t), blobstore.RoleCustodian)
	for _, k := range both {
		if n := b.versions(t, s, k); n != 0 {
			t.Fatalf("%s: %d versions remain", k, n)
		}
	}
}
