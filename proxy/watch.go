package proxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"example.org/agentkeys/api"
)

// pauses between watches that fail. What is held dies meanwhile.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 2 * time.Second
	sweepEvery = time.Second
)

// watch hears of what to drop until ctx ends, or the custodian says that this proxy is
// none any more. Whatever the reason, nothing is held afterwards.
func (k *leases) watch(ctx context.Context) error {
	defer k.dropAll(context.WithoutCancel(ctx))
	k.mu.Lock()
	k.lapse = time.AfterFunc(api.WatchLife, k.lapsed)
	k.mu.Unlock()
	defer k.lapse.Stop()
	pause := firstPause
	for ctx.Err() == nil {
		err := k.watchOnce(ctx)
		if err == nil {
			pause = firstPause
			continue
		}
		if final(err) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
	return ctx.Err()
}

// final is a refusal that waiting does not change.
func final(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && !e.Retry && (e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized)
}

// watchOnce sends one watch and carries out what comes back. What it confirms is done.
func (k *leases) watchOnce(ctx context.Context) error {
	in := k.report()
	sent := time.Now()
	bounded, cancel := context.WithTimeout(ctx, api.WatchHold+api.WatchLife)
	out, err := k.cfg.Vault.Watch(bounded, in)
	cancel()
	if err != nil {
		k.unreport(in.Calls)
		return err
	}
	drops := k.hear(sent, out)
	if err := k.carryOut(ctx, drops...); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range drops {
		k.seen = max(k.seen, d.Number)
	}
	return nil
}

// report takes the calls that have not been told.
func (k *leases) report() api.Watch {
	k.mu.Lock()
	defer k.mu.Unlock()
	in := api.Watch{Instance: k.instance, Boot: k.boot, Seen: k.seen}
	for c, n := range k.calls {
		in.Calls = append(in.Calls, api.Calls{Session: c.session, ServiceID: c.service, Version: c.version, Count: n})
	}
	clear(k.calls)
	return in
}

// unreport keeps calls for the next watch. If the custodian took them before the
// connection broke they are told twice: rather that than never.
func (k *leases) unreport(calls []api.Calls) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range calls {
		k.calls[counted{c.Session, c.ServiceID, c.Version}] += c.Count
	}
}

// hear prolongs what is held and gives what is to be dropped. At another registration
// that is everything: the custodian does not know any more what was lent before.
func (k *leases) hear(sent time.Time, out api.Watched) []api.Drop {
	k.mu.Lock()
	defer k.mu.Unlock()
	drops := out.Drops
	if out.Boot != k.boot {
		if k.boot != "" {
			drops = append([]api.Drop{{Reason: "restarted"}}, drops...)
		}
		k.boot, k.seen = out.Boot, 0
	}
	k.valid = sent.Add(api.WatchLife)
	if k.lapse != nil {
		k.lapse.Reset(time.Until(k.valid))
	}
	return drops
}

// lapsed ends everything if the custodian was silent for too long.
func (k *leases) lapsed() {
	k.mu.Lock()
	silent := past(k.valid) && len(k.loans) > 0
	k.mu.Unlock()
	if silent {
		k.cut(api.Drop{Reason: "silence"})
	}
}

// dropAll leaves nothing: no child, no value, no call.
func (k *leases) dropAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, api.WatchLife)
	defer cancel()
	k.mu.Lock()
	k.valid = time.Time{}
	k.mu.Unlock()
	_ = k.carryOut(ctx, api.Drop{Reason: "stopped"})
}
