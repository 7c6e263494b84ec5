package devcloud

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/s3response"
)

// recorder is a disk that remembers what was flushed and can fail.
type recorder struct {
	mu      sync.Mutex
	flushed []string
	failing error
}

func (r *recorder) flush(path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flushed = append(r.flushed, path)
	if r.failing != nil {
		return r.failing
	}
	return syncPath(path)
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.flushed = nil }()
	return r.flushed
}

func openTest(t *testing.T) (*durable, *recorder) {
	t.Helper()
	t.Chdir(t.TempDir()) // posix changes the directory; this puts it back
	be, err := openBackend(t.Context(), Config{Dir: t.TempDir(), Bucket: "vault"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(be.Shutdown)
	r := &recorder{}
	return newDurable(be.Posix, r.flush), r
}

func put(t *testing.T, d *durable, key string) error {
	t.Helper()
	_, err := d.PutObject(t.Context(), s3response.PutObjectInput{
		Bucket: aws.String("vault"), Key: &key, Body: bytes.NewReader([]byte("x")), ContentLength: aws.Int64(1), IfNoneMatch: aws.String("*"),
	})
	return err
}

func remove(t *testing.T, d *durable, key string) {
	t.Helper()
	if _, err := d.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("vault"), Key: &key}); err != nil {
		t.Fatal(err)
	}
}

func TestFlushedBeforeAcknowledged(t *testing.T) {
	d, r := openTest(t)
	step := func(what string, want ...string) {
		t.Helper()
		if got := r.take(); !slices.Equal(got, want) {
			t.Fatalf("%s flushed %q, want %q", what, got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(put(t, d, "u/e/s/1"))
	step("first object", "vault/u/e/s/1", "vault/u/e/s", "vault/u/e", "vault/u", "vault")
	must(put(t, d, "u/e/s/2"))
	step("object beside it", "vault/u/e/s/2", "vault/u/e/s")
	must(put(t, d, "u/e/t/1"))
	step("new service", "vault/u/e/t/1", "vault/u/e/t", "vault/u/e")
	if put(t, d, "u/e/s/1") == nil {
		t.Fatal("object was replaced")
	}
	step("refused put", "vault/u/e/s/1", "vault/u/e/s")
	remove(t, d, "u/e/s/1")
	step("delete", "vault/u/e/s")
	remove(t, d, "u/e/s/2")
	step("delete of the last in a directory", "vault/u/e/s", "vault/u/e")
	must(put(t, d, "u/e/s/3"))
	step("directory made again", "vault/u/e/s/3", "vault/u/e/s", "vault/u/e", "vault/u", "vault")

	_, err := d.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{Bucket: aws.String("vault"), Delete: &types.Delete{
		Objects: []types.ObjectIdentifier{{Key: aws.String("u/e/s/3")}, {Key: aws.String("u/e/t/1")}, {Key: aws.String("u/e/t/none")}},
	}})
	must(err)
	if got := r.take(); !slices.Equal(got, []string{"vault/u/e/s", "vault/u/e", "vault/u", "vault", "vault/u/e/t"}) {
		t.Fatalf("delete of all flushed %q", got)
	}
}

func TestFailedFlushIsNotAcknowledged(t *testing.T) {
	d, r := openTest(t)
	r.failing = errors.New("disk is gone")
	if err := put(t, d, "u/e/s/1"); !errors.Is(err, r.failing) {
		t.Fatalf("put: %v", err)
	}
}

func TestDirSyncerSharesAndCovers(t *testing.T) {
	var running, flushes atomic.Int32
	entered, release := make(chan struct{}), make(chan struct{})
	d := newDirSyncer(func(string) error {
		if running.Add(1) != 1 {
			t.Error("two flushes of one directory at once")
		}
		defer running.Add(-1)
		if flushes.Add(1) == 1 {
			close(entered)
			<-release
		}
		return nil
	})
	var wg sync.WaitGroup
	wg.Go(func() { _ = d.sync("dir") })
	<-entered
	for range 20 {
		wg.Go(func() { _ = d.sync("dir") })
	}
	// Those twenty arrived during the first flush, which therefore cannot cover them.
	for queued := 0; queued < 21; {
		d.mu.Lock()
		queued = d.dirs["dir"].users
		d.mu.Unlock()
	}
	close(release)
	wg.Wait()
	if n := flushes.Load(); n != 2 {
		t.Errorf("%d flushes for one caller and then twenty, want 2", n)
	}
	if len(d.dirs) != 0 {
		t.Errorf("%d directories remembered", len(d.dirs))
	}
}

func TestDirSyncerFailureCoversNobody(t *testing.T) {
	failing := fs.ErrPermission
	d := newDirSyncer(func(string) error { return failing })
	if err := d.sync("dir"); !errors.Is(err, fs.ErrPermission) {
		t.Fatal(err)
	}
}

func TestKnownDirs(t *testing.T) {
	k := newKnownDirs()
	ask := func() []string { d, _ := k.unknown("b", "b/u/e/x"); return d }
	dirs, stamp := k.unknown("b", "b/u/e/x")
	if !slices.Equal(dirs, []string{"b/u/e", "b/u"}) {
		t.Fatalf("unknown %q", dirs)
	}
	end := k.deleting("b", []string{"b/u/e/y"})
	k.settle(dirs, stamp)
	if len(ask()) != 2 {
		t.Error("settled while a delete ran")
	}
	end()
	k.settle(dirs, stamp)
	if len(ask()) != 2 {
		t.Error("settled with a stamp from before a delete")
	}
	dirs, stamp = k.unknown("b", "b/u/e/x")
	k.settle(dirs, stamp)
	if len(ask()) != 0 {
		t.Error("not settled")
	}
	k.deleting("b", []string{"b/u/f/y"})()
	if got := ask(); !slices.Equal(got, []string{"b/u"}) {
		t.Errorf("a delete beside left unknown %q", got)
	}
}
