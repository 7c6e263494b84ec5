package main

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.org/agentkeys/api"
)

func TestSessionsAreRenewed(t *testing.T) {
	over := &api.Error{Status: 401, Code: "session_expired"}
	invalid := &api.Error{Status: 401, Code: "session_invalid"}
	away := errors.New("away")
	for name, c := range map[string]struct {
		left          time.Duration
		answers       []error // of the calls
		login         error
		logins, calls int
		want          error
	}{
		"long to go":            {time.Hour, []error{nil}, nil, 0, 1, nil},
		"nearly over":           {renewBefore - time.Second, []error{nil}, nil, 1, 1, nil},
		"nearly over, no login": {time.Second, nil, away, 1, 0, away},
		"over for custodian":    {time.Hour, []error{over, nil}, nil, 1, 2, nil},
		"over, and no login":    {time.Hour, []error{over}, away, 1, 1, away},
		"over twice":            {time.Hour, []error{over, over}, nil, 1, 2, over},
		"not a session":         {time.Hour, []error{invalid}, nil, 0, 1, invalid},
	} {
		t.Run(name, func(t *testing.T) {
			ends, logins, calls := time.Now().Add(c.left), 0, 0
			r := renewed{expires: func() time.Time { return ends }, login: func(context.Context) error {
				logins++
				if c.login == nil {
					ends = time.Now().Add(2 * time.Hour)
				}
				return c.login
			}}
			err := r.with(t.Context(), func() error { calls++; return c.answers[calls-1] })
			if !errors.Is(err, c.want) || logins != c.logins || calls != c.calls {
				t.Errorf("%v after %d logins and %d calls", err, logins, calls)
			}
		})
	}
}

// Many calls at the end of a session log in once.
func TestSessionsAreRenewedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		ends, logins := time.Now().Add(time.Second), 0
		r := renewed{expires: func() time.Time { mu.Lock(); defer mu.Unlock(); return ends }, login: func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			logins++
			ends = time.Now().Add(time.Hour)
			return nil
		}}
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				if err := r.with(t.Context(), func() error { return nil }); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if logins != 1 {
			t.Errorf("%d logins", logins)
		}
	})
}

// One proxy a profile: the place is taken until the process lets go of it.
func TestClaim(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "default.sock")
	first, err := claim(socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim(socket); err == nil {
		t.Fatal("two proxies have one place")
	}
	other, err := claim(socket + "2")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := claim(socket)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
