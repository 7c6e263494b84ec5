package client

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/eip712"
	"example.org/agentkeys/record"
	"example.org/agentkeys/statement"
)

const testSession = "000102030405060708090a0b0c0d0e0f"

var (
	testService = agentkeys.ServiceID{7}
	testAgent   = agentkeys.Wallet{8}
)

func (f *fakeCustodian) use(body []byte) (any, error) {
	var in api.Use
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	proxy, err := agentkeys.ParseWallet(in.Delegation.Proxy)
	if err != nil || api.CheckDelegation(in.Delegation, f.sessions[0], testVault, proxy) != nil {
		return nil, &api.Error{Status: 401, Code: "session_invalid"}
	}
	r := record.Record{Sequence: 3, Kind: record.KindRead, Mode: uint8(statement.ModeUse), User: f.user, Agent: testAgent, Service: testService, Version: f.versions[in.Service], Epoch: 1}
	for i := range r.Session {
		r.Session[i] = byte(i)
	}
	out := api.Used{ServiceID: testService.String(), Session: testSession, Agent: testAgent.String(), Lease: 60, Value: api.Value{
		Credential: append([]byte(nil), f.held[in.Service].Credential...), Version: r.Version, Epoch: 1, Receipt: record.SignReceipt(f.key, testVault, r).Append(nil)}}
	if f.used != nil {
		f.used(&out)
	}
	return out, nil
}

func (f *fakeCustodian) watch(body []byte) (any, error) {
	var in api.Watch
	if err := json.Unmarshal(body, &in); err != nil || len(in.Calls) != 1 {
		return nil, errors.New("want one entry of calls")
	}
	return api.Watched{Boot: "b", Drops: []api.Drop{{Number: in.Seen + 1, Session: in.Calls[0].Session}}}, nil
}

func (f *fakeCustodian) rules(body []byte) (any, error) {
	var in api.RulesRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	return api.Rules{Kind: 1, Header: in.Service + " " + in.Agent, Hosts: []api.Host{{Pattern: "api.github.com", Port: 443}}, Version: 4}, nil
}

func (f *fakeCustodian) listSessions([]byte) (any, error) {
	return api.Sessions{Since: 5, Sessions: []api.SessionInfo{{ID: testSession, Agent: testAgent.String()}}}, nil
}

func (f *fakeCustodian) end(body []byte) (any, error) {
	var in api.End
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	if in.Session == "self" {
		return struct{}{}, nil
	}
	if in.Presence == nil || !f.take(in.Presence.Nonce) {
		return nil, &api.Error{Status: 403, Code: "presence_required"}
	}
	want := eip712.Presence{User: f.user, Action: "end", Service: eip712.ServiceID(api.SessionLabel(in.Session)), Agent: testAgent, Nonce: [32]byte(in.Presence.Nonce)}
	if signer, err := eip712.Recover(want.Digest(testVault), [65]byte(in.Presence.Signature)); err != nil || signer != f.user {
		return nil, &api.Error{Status: 403, Code: "presence_invalid"}
	}
	return struct{}{}, nil
}

// used is a client of a vault that holds github, and a delegation of its session.
func used(t *testing.T) (*fakeCustodian, *Client, eip712.Key, api.Delegation) {
	t.Helper()
	f := newCustodian(t)
	c, k := owner(t, f)
	var shared agentkeys.Wallet
	if _, err := c.Write(t.Context(), "github", shared, bearer("one"), statement.IdleCarry, 0, nil); err != nil {
		t.Fatal(err)
	}
	return f, c, k, c.Delegate(agentkeys.Wallet{4}, c.Expires())
}

func TestUse(t *testing.T) {
	f, c, _, d := used(t)
	for said, want := range map[uint64]time.Duration{20: 20 * time.Second, 60: time.Minute, 61: api.MaxLease, 1 << 62: api.MaxLease} {
		f.used = func(u *api.Used) { u.Lease = said }
		before := time.Now()
		l, err := c.Use(t.Context(), d, "github", "")
		after := time.Now()
		if err != nil || string(l.Secret.Reveal()) != "one" || l.ServiceID != testService || l.Agent != testAgent || l.Session != testSession {
			t.Fatalf("%+v, %v", l, err)
		}
		if l.Until.Before(before.Add(want)) || l.Until.After(after.Add(want)) {
			t.Errorf("lent for %d s, kept until %v after it was asked for", said, l.Until.Sub(before))
		}
	}
}

func TestUseRefusesAnotherAnswer(t *testing.T) {
	f, c, _, d := used(t)
	for name, change := range map[string]func(*api.Used){
		"no receipt":      func(u *api.Used) { u.Receipt = nil },
		"another version": func(u *api.Used) { u.Version++ },
		"another service": func(u *api.Used) { u.ServiceID = agentkeys.ServiceID{9}.String() },
		"another agent":   func(u *api.Used) { u.Agent = agentkeys.Wallet{9}.String() },
		"another session": func(u *api.Used) { u.Session = strings.Repeat("00", 16) },
		"no credential":   func(u *api.Used) { u.Credential = nil },
		"revealed": func(u *api.Used) {
			r, err := record.ParseReceipt(u.Receipt)
			if err != nil {
				t.Error(err)
			}
			r.Record.Mode = uint8(statement.ModeReveal)
			u.Receipt = record.SignReceipt(f.key, testVault, r.Record).Append(nil)
		},
	} {
		f.used = change
		if l, err := c.Use(t.Context(), d, "github", ""); err == nil {
			t.Errorf("%s is taken: %+v", name, l)
		}
	}
}

func TestDelegateEndsWithTheSession(t *testing.T) {
	_, c, _, _ := used(t)
	end := uint64(c.Expires().Unix())
	for until, want := range map[time.Time]uint64{
		c.Expires().Add(-time.Minute): end - 60, c.Expires(): end, c.Expires().Add(time.Hour): end,
	} {
		if d := c.Delegate(agentkeys.Wallet{4}, until); d.Until != want {
			t.Errorf("until %d, want %d", d.Until, want)
		}
	}
}

func TestWatchRulesSessions(t *testing.T) {
	_, c, k, _ := used(t)
	w, err := c.Watch(t.Context(), api.Watch{Seen: 4, Calls: []api.Calls{{Session: testSession, Count: 1}}})
	if err != nil || len(w.Drops) != 1 || w.Drops[0].Number != 5 || w.Drops[0].Session != testSession {
		t.Errorf("%+v, %v", w, err)
	}
	for slot, want := range map[agentkeys.Wallet]string{{}: "github ", testAgent: "github " + testAgent.String()} {
		if r, err := c.Rules(t.Context(), "github", slot); err != nil || r.Header != want || len(r.Hosts) != 1 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	l, err := c.Sessions(t.Context())
	if err != nil || len(l.Sessions) != 1 {
		t.Fatal(l, err)
	}
	stranger := newKey(t)
	if err := c.EndSession(t.Context(), l.Sessions[0], &k); err != nil {
		t.Error(err)
	}
	if err := c.EndSession(t.Context(), l.Sessions[0], &stranger); api.CodeOf(err) != "presence_invalid" {
		t.Errorf("another wallet: %v", err)
	}
	if err := c.EndSession(t.Context(), l.Sessions[0], nil); api.CodeOf(err) != "presence_required" {
		t.Errorf("no wallet: %v", err)
	}
	if err := c.EndSession(t.Context(), api.SessionInfo{ID: "self"}, nil); err != nil {
		t.Error(err)
	}
}

// A session is renewed in place while others use the client.
func TestRenewedWhileInUse(t *testing.T) {
	_, c, k, _ := used(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if _, err := c.WhoAmI(t.Context()); err != nil {
					t.Error(err)
				}
				c.Delegate(agentkeys.Wallet{4}, c.Expires())
				_ = c.State()
			}
		})
	}
	for range 5 {
		if err := c.Login(t.Context(), k, k.Wallet(), 0); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}
