package custodian

import (
	"context"
	"runtime"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/rules"
)

// countFor is how long a count of the live epochs is gone by while some of them are still
// under an older shielding key: to prove all rows costs more than to wrap some.
const countFor = 30 * time.Second

// shielding answers how far the vault is under its newest shielding key, and begins the
// next one when asked to: the flow "Re-wrap" of docs/spec/rotation.md. It refuses while
// an epoch is still under an older one. That none is any more is always proven.
func (j *Jobs) shielding(ctx context.Context, in api.ShieldingRequest) (api.Shielding, error) {
	j.rewrap.Lock()
	defer j.rewrap.Unlock()
	if err := j.s.freshHead(ctx); err != nil {
		return api.Shielding{}, err
	}
	if n := j.behind.Load(); !in.Begin && n > 0 && time.Since(j.at) < countFor {
		out := j.counted
		out.Behind, out.CryptoSeconds = int(n), j.crypto.seconds()
		return out, nil
	}
	out := api.Shielding{Version: j.k.version()}
	var ids []erasure.ShareID
	err := j.k.live(ctx, func(id erasure.ShareID) error {
		if id.WrapVersion < out.Version {
			out.Behind++
		}
		id.WrapVersion = out.Version + 1
		ids = append(ids, id)
		return nil
	})
	if err != nil {
		return api.Shielding{}, j.s.chainFailed(err)
	}
	out.Live = len(ids)
	if in.Begin {
		if out.Behind > 0 {
			return out, conflict.because("Wait until none is", "%d of %d epochs are still under an older shielding key than %d", out.Behind, out.Live, out.Version)
		}
		out.Version++
		out.Behind = out.Live
		if err := j.begin(ctx, out.Version, ids); err != nil {
			return api.Shielding{}, err
		}
	}
	out.CryptoSeconds = j.crypto.seconds()
	j.counted, j.at = out, time.Now()
	j.behind.Store(int64(out.Behind))
	return out, nil
}

// begin makes the next shielding key the one in use and the shares for it.
func (j *Jobs) begin(ctx context.Context, version uint32, ids []erasure.ShareID) error {
	// Durable before anything is under it: a start must not go back to an older key.
	if err := j.s.cfg.State.SetWrapVersion(version); err != nil {
		return err
	}
	j.k.set.SetVersion(version)
	j.s.step("shielding.shares")
	if err := j.k.newShares(ctx, ids); err != nil {
		// Each job makes its own share where it is missing.
		j.s.log.Warn("shares for the new shielding key are made one by one", "version", version, "error", err.Error())
	}
	return nil
}

// names says whether a live epoch's data key is under a share.
func names(u rules.User, id erasure.ShareID) bool {
	return u.Active.Epoch == id.Epoch && shareOf(id.User, u.Active) == id || u.Draining.Epoch == id.Epoch && shareOf(id.User, u.Draining) == id
}

// outdate gives up a share that no row names any more; it is erased after the grace,
// when readers of the older row are done.
func (e *eraser) outdate(id erasure.ShareID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.outdated[id]; !ok {
		e.outdated[id] = time.Now()
	}
}

// outdatedFor are the shares that have been given up for that long. While more come
// they are left for one commit, but not for longer than ten times the grace.
func (e *eraser) outdatedFor(grace time.Duration) (ids []erasure.ShareID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	newest, oldest := time.Duration(1<<62), time.Duration(0)
	for _, since := range e.outdated {
		newest, oldest = min(newest, time.Since(since)), max(oldest, time.Since(since))
	}
	for id, since := range e.outdated {
		if time.Since(since) >= grace && (newest >= grace || oldest >= 10*grace) {
			ids = append(ids, id)
		}
	}
	return ids
}

// eraseOutdated erases them in one commit of every tree, and finishes a commit that was
// cut short: until then the older root still opens what was to be erased. n are those that
// were due.
func (e *eraser) eraseOutdated(ctx context.Context) (n int, err error) {
	params, err := e.s.Params(ctx)
	if err != nil {
		return 0, err
	}
	ids := e.outdatedFor(time.Duration(2*params.MaxHeadAge) * time.Second)
	if len(ids) == 0 && !e.k.set.Unfinished() {
		return 0, nil
	}
	if _, err := e.k.leases(ctx); err != nil {
		return len(ids), err
	}
	e.s.step("outdated.erase")
	e.k.set.Erase(ids...)
	if err := e.k.set.Commit(ctx); err != nil {
		return len(ids), err
	}
	runtime.GC() // keys that flows have left in freed memory go too
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range ids {
		delete(e.outdated, id)
	}
	return len(ids), nil
}

// findOutdated gives up, once a start, the shares that a crash between the proven row
// and their erasure has left.
func (e *eraser) findOutdated(ctx context.Context) error {
	version := e.k.version()
	for id := range e.k.set.IDs() {
		if id.WrapVersion >= version {
			continue
		}
		u, ok, err := e.s.User(ctx, id.User)
		if err != nil {
			return err
		}
		for _, live := range []rules.EpochRow{u.Active, u.Draining} {
			if ok && live.Epoch == id.Epoch && shareOf(id.User, live).WrapVersion > id.WrapVersion {
				e.outdate(id)
			}
		}
	}
	return nil
}
