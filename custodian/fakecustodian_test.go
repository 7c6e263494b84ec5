package custodian

import (
	"bytes"
	"testing"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/envelope"
	"example.org/agentkeys/receipt"
	mail "example.org/agentkeys/rotation"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/rules/rulestest"
	"example.org/agentkeys/statement"
)

// fakeJob drives the real rotator as a custodian would, under a job id and with wrapping
// keys of its own choice.
func (r *rotating) fakeJob(id agentkeys.JobID, job mail.Job) (typ uint8, answer []byte, err error) {
	r.t.Helper()
	p, err := r.courier.rotator(r.t.Context())
	check(r.t, err)
	pub, err := channel.ParsePublicKeys(append(bytes.Clone(p.hello.Noise), p.hello.MLKEM...))
	check(r.t, err)
	init, hello, err := channel.Initiate(r.vault, id, pub)
	check(r.t, err)
	reply, err := p.ask(mail.Handshake, hello, mail.Handshake)
	check(r.t, err)
	conn, err := init.Finish(reply)
	check(r.t, err)
	var frames bytes.Buffer
	check(r.t, conn.WriteMessage(&frames, job.Append(nil), true))
	rest := frames.Bytes()
	return r.courier.feed(&rest)
}

func (r *rotating) chosen(epoch agentkeys.Epoch, version uint32, with byte) envelope.WrappingKey {
	return envelope.WrappingKey{User: r.owner.Wallet(), Epoch: epoch, Version: version, Secret: agentkeys.NewSecret(bytes.Repeat([]byte{with}, 32))}
}

// The rotator cannot know who a job is from. Whoever holds its descriptor can have it make
// data keys under keys of his own, with a true receipt; neither the custodian nor the chain
// takes one, so no credential is ever sealed under it.
func TestFakeCustodianDrivesTheRotator(t *testing.T) {
	rotate(t, 1, func(t *testing.T, r *rotating) {
		r.keep("github")
		r.ask()
		p, err := r.courier.rotator(t.Context())
		check(t, err)
		real, err := r.jobs.next(t.Context(), api.JobRequest{User: r.owner.Wallet().String(), Rotator: p.key()})
		check(t, err)
		id, err := agentkeys.ParseJobID(real.ID)
		check(t, err)
		before := r.user()
		next := before.Active.Epoch + 1
		typ, b, err := r.fakeJob(id, mail.Job{Kind: mail.Make, To: r.chosen(next, 1, 7)})
		check(t, err)
		if typ != mail.Receipt {
			t.Fatalf("rotator: type %d", typ)
		}
		fake := receiptOf(real, b)
		rd := agentkeys.NewReader(fake.Body)
		made := receipt.ReadMade(rd)
		check(t, rd.Close())
		if _, err := r.chosen(next, 1, 7).Unwrap(r.vault, made.DEKID, made.Wrapped); err != nil {
			t.Fatalf("the fake cannot even open its own key: %v", err)
		}
		// Under the id of the real job, to the real custodian.
		wantCode(t, r.jobs.receipt(t.Context(), fake), badRequest)
		// To the chain, co-signed by a process that nobody registered.
		rd = agentkeys.NewReader(fake.Signature)
		sig := receipt.ReadSignature(rd)
		check(t, rd.Close())
		r.refused(statement.OpenEpoch{Receipt: made, ValidUntil: r.in(60)}, sig, rules.NotRegistered)
		if r.user() != before {
			t.Fatal("the row changed")
		}
		r.settle(next)
		r.intact()

		// The same with the data key of a live epoch: without its wrapping key the rotator
		// gives nothing, and is dead.
		live := r.user().Active
		r.courier.drop()
		job := mail.Job{Kind: mail.Wrap, From: r.chosen(live.Epoch, 1, 8), To: r.chosen(live.Epoch, 2, 9), FromID: live.DEKID, FromSealed: live.Wrapped}
		if typ, _, err := r.fakeJob(agentkeys.JobID{1}, job); err == nil {
			t.Errorf("the rotator answers %d for a data key that it was given no key to", typ)
		}
		r.courier.drop()
		r.ask()
		r.settle(next + 1)
		r.intact()
	})
}

// refused has the chain refuse a statement of a process that it does not know.
func (r *rotating) refused(body statement.Body, sig receipt.Signature, want rules.Code) {
	r.t.Helper()
	wire := statement.SignProcess(rulestest.Process("fake custodian"), r.vault, body, &sig)
	out, err := r.chain.Submit(r.t.Context(), [][]byte{wire})
	check(r.t, err)
	if len(out.Results) != 1 || rules.Code(out.Results[0].Code) != want {
		r.t.Errorf("%T of a fake custodian: %+v, want %s", body, out.Results, want)
	}
}
