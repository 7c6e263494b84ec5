package conformance

import (
	"context"
	"errors"
	"testing"
	"time"

	"example.org/agentkeys/blobstore"
)

// outage stops the store and brings it back without its sessions.
func outage(t *testing.T, b *bench) {
	if b.Stop == nil || b.Start == nil {
		t.Skip("the target cannot be stopped")
	}
	user := wallet(t)
	k := key(t, user, 1)
	must(t, b.store.Put(t.Context(), user, k, []byte("kept")))
	s, err := b.store.CourierSession(t.Context(), user)
	must(t, err)
	courier, err := blobstore.NewCourier(s, nil)
	must(t, err)

	b.Stop(t)
	unavailable := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, blobstore.ErrUnavailable) || errors.Is(err, blobstore.ErrNotFound) {
			t.Errorf("%s while the store is away: %v", what, err)
		}
	}
	_, err = b.store.Get(t.Context(), user, k, limit)
	unavailable("get", err)
	_, err = b.store.Get(t.Context(), user, key(t, user, 1), limit)
	unavailable("get of a missing object", err)
	unavailable("put", b.store.Put(t.Context(), user, key(t, user, 1), []byte("x")))
	unavailable("delete", b.store.Delete(t.Context(), user, k))
	for _, err := range b.store.List(t.Context(), user, blobstore.UserPrefix(user)) {
		unavailable("list", err)
	}
	_, err = b.store.EmptyPrefix(t.Context(), user, 1)
	unavailable("empty", err)
	_, err = b.store.Get(t.Context(), wallet(t), k, limit)
	if !errors.Is(err, blobstore.ErrKey) {
		t.Errorf("foreign key while the store is away: %v", err)
	}
	_, err = b.store.System().Get(t.Context(), blobstore.ProbePrefix+"x", limit)
	unavailable("first exchange", err)
	short, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	_, err = b.store.Get(short, user, k, limit)
	unavailable("get past its deadline", err)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline is hidden: %v", err)
	}

	b.Start(t)
	got, err := b.store.Get(t.Context(), user, k, limit)
	must(t, err)
	if string(got) != "kept" {
		t.Errorf("after the restart: %q", got)
	}
	must(t, b.store.Put(t.Context(), user, key(t, user, 1), []byte("x")))
	if _, err := courier.Get(t.Context(), k, limit); !errors.Is(err, blobstore.ErrSession) {
		t.Errorf("courier with a forgotten session: %v", err)
	}
}
