package custodian

import (
	"context"
	"encoding/hex"
	"time"

	"example.org/agentkeys/api"
	"example.org/agentkeys/credential"
	"example.org/agentkeys/record"
	"example.org/agentkeys/statement"
	"example.org/agentkeys/token"
)

const modeUse = statement.ModeUse

// use is the flow "Use" of docs/spec/api.md: a value goes on loan to a proxy that its
// owner admitted, on behalf of a session that may use it.
func (s *Server) use(ctx context.Context, proxy token.Claims, in api.Use) (api.Used, error) {
	name, err := parseService(in.Service)
	if err != nil {
		return api.Used{}, err
	}
	id, err := parseInstance(proxy, in.Instance)
	if err != nil {
		return api.Used{}, err
	}
	c, err := s.delegated(proxy, in.Delegation)
	if err != nil {
		return api.Used{}, err
	}
	if err := s.allowProxy(ctx, proxy); err != nil {
		return api.Used{}, err
	}
	now := time.Now()
	var lease uint64
	v, verdict, err := s.give(ctx, c, want{action: actUse, service: name}, func(v verdict) error {
		ends := min(v.ends, in.Delegation.Until, proxy.Expires)
		lease = min(uint64(api.MaxLease/time.Second), ends-min(ends, max(blockTime(v.head), uint64(now.Unix()))))
		l := loan{c.ID, v.slot.Service, v.pointer.Version}
		what := loaned{agent: c.Agent, counter: c.Counter, proxy: proxy.Agent, admitted: proxy.Counter, grant: v.grant, owner: v.slot.Agent,
			epoch: v.pointer.Epoch, height: v.head.StateHeight, until: now.Add(time.Duration(lease) * time.Second)}
		if lease == 0 || !s.proxies.lend(id, l, what) {
			return notWatching.because("Watch first, then ask again", "this proxy does not hear of revocations, so it is given nothing")
		}
		return nil
	})
	if err != nil {
		return api.Used{}, err
	}
	// The proxy's own admission may have ended meanwhile.
	if err := s.allowProxy(ctx, proxy); err != nil {
		clear(v.Credential)
		return api.Used{}, err
	}
	return api.Used{Value: v, ServiceID: verdict.slot.Service.String(), Session: hex.EncodeToString(c.ID[:]), Agent: c.Agent.String(), Lease: lease}, nil
}

// allowProxy decides whether a session is a live proxy's.
func (s *Server) allowProxy(ctx context.Context, proxy token.Claims) error {
	if proxy.Role != token.RoleProxy {
		return notProxy.because("Use it through the proxy: agentkeys run --with NAME", "only a proxy that the owner admitted may do this")
	}
	_, err := s.authorise(ctx, proxy, want{action: actSession})
	return err
}

// delegated gives the session that let this proxy act: of the same user, by the
// session's own key, for a time within its life.
func (s *Server) delegated(proxy token.Claims, d api.Delegation) (token.Claims, error) {
	c, err := s.parsed.claims(d.Token, func() (token.Claims, error) {
		return token.ParseSession(&s.issuer.PublicKey, s.cfg.Vault, d.Token)
	})
	if err != nil || c.User != proxy.User || c.Role == token.RoleProxy || api.CheckDelegation(d, c.Key, s.cfg.Vault, proxy.Agent) != nil {
		return c, sessionInvalid.because(loginAgain, "the delegation is not by a session of this proxy's user, or for another proxy")
	}
	if d.Until > c.Expires || d.Until <= uint64(time.Now().Unix()) {
		return c, sessionExpired.because(loginAgain, "the delegation ended, or outlives its session")
	}
	return c, nil
}

func parseInstance(proxy token.Claims, text string) (proxyID, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 16 {
		return proxyID{}, badRequest.because("", "instance: want 32 hex digits")
	}
	return proxyID{proxy.Agent, [16]byte(b)}, nil
}

// watch is a proxy's long poll: what it carried out and how often it called, then what
// else to drop. It needs no fresh head, so an idle chain makes no block for it; a
// proxy that was revoked may still confirm.
func (s *Server) watch(ctx context.Context, proxy token.Claims, in api.Watch) (api.Watched, error) {
	received := time.Now()
	id, err := parseInstance(proxy, in.Instance)
	if err != nil {
		return api.Watched{}, err
	}
	if err := s.recordCalls(s.proxies.calls(id, proxy.User, in.Boot, in.Calls)); err != nil {
		return api.Watched{}, err
	}
	s.proxies.confirm(id, in.Boot, in.Seen)
	if err := s.allowProxy(ctx, proxy); err != nil {
		return api.Watched{}, err
	}
	i, ok := s.proxies.watching(id, proxy.User, received)
	if !ok {
		return api.Watched{}, notWatching.because("Stop proxies that are not needed", "too many proxies watch")
	}
	hold := time.NewTimer(api.WatchHold)
	defer hold.Stop()
	for {
		out, wake := s.proxies.news(i)
		if len(out.Drops) > 0 || out.Boot != in.Boot {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return out, ctx.Err()
		case <-hold.C:
			return out, nil
		case <-wake:
		}
	}
}

// recordCalls has calls on disk before the drop that ended them is confirmed.
func (s *Server) recordCalls(told []record.Record) error {
	if len(told) == 0 {
		return nil
	}
	s.step("watch.calls")
	for i := range told {
		told[i].Time, told[i].Boot = uint64(time.Now().Unix()), s.cfg.State.Boots
	}
	if err := s.outbox.appendAll(told); err != nil {
		s.log.Error("outbox", "error", err.Error())
		return auditUnavailable.because("Free disk space on the custodian, then try again", "the calls cannot be recorded")
	}
	return nil
}

// rules tells where a credential may go. The value is opened and cleared here; none
// leaves, so there is no read record.
func (s *Server) rules(ctx context.Context, c token.Claims, in api.RulesRequest) (api.Rules, error) {
	name, err := parseService(in.Service)
	if err != nil {
		return api.Rules{}, err
	}
	agent, err := parseSlotAgent(in.Agent)
	if err != nil {
		return api.Rules{}, err
	}
	if err := s.freshHead(ctx); err != nil {
		return api.Rules{}, err
	}
	w := want{action: actRules, service: name, agent: agent}
	v, err := s.authorise(ctx, c, w)
	if err != nil {
		return api.Rules{}, err
	}
	sealed, v, err := s.fetch(ctx, c, w, v)
	if err != nil {
		return api.Rules{}, err
	}
	plain, err := s.open(v, sealed)
	if err != nil {
		return api.Rules{}, err
	}
	defer clear(plain)
	cred, err := credential.Parse(plain)
	if err != nil {
		return api.Rules{}, tampered.because("Store it again: agentkeys replace "+in.Service, "what is stored as %s is no credential", in.Service)
	}
	defer cred.Secret.Wipe()
	if err := s.still(ctx, c, w, v); err != nil {
		return api.Rules{}, err
	}
	out := api.Rules{Kind: uint8(cred.Kind), Header: cred.Header, Hosts: []api.Host{}, Version: v.pointer.Version}
	for _, h := range cred.Hosts {
		out.Hosts = append(out.Hosts, api.Host{Pattern: h.Pattern, Port: h.Port})
	}
	return out, nil
}
