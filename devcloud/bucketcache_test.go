package devcloud

import (
	"errors"
	"testing"

	"github.com/versity/versitygw/backend/meta"
)

func TestBucketCacheFollowsWrites(t *testing.T) {
	t.Chdir(t.TempDir())
	files := meta.XattrMeta{}
	c := newBucketCache(files)
	read := func(what, want string) {
		t.Helper()
		for range 2 {
			got, err := c.RetrieveAttribute(nil, ".", "", "acl")
			if string(got) != want || (want == "") != errors.Is(err, meta.ErrNoSuchKey) {
				t.Errorf("%s: %q, %v; want %q", what, got, err, want)
			}
		}
	}
	store := func(m meta.MetadataStorer, value string) {
		t.Helper()
		if err := m.StoreAttribute(nil, ".", "", "acl", []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	read("nothing yet", "")
	store(c, "one")
	read("stored", "one")
	store(files, "behind its back")
	read("kept", "one")
	store(c, "two")
	read("replaced", "two")
	if err := c.DeleteAttribute(".", "", "acl"); err != nil {
		t.Fatal(err)
	}
	read("deleted", "")
}
