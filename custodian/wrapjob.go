package custodian

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/channel"
	"example.org/agentkeys/erasure"
	"example.org/agentkeys/receipt"
	"example.org/agentkeys/rotation"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// liveEpoch is one epoch whose data key a wrap job carries.
type liveEpoch struct {
	user agentkeys.Wallet
	rules.EpochRow
}

// share is the one that the data key is wrapped with, next the one of a newer version.
func (e liveEpoch) share() erasure.ShareID { return shareOf(e.user, e.EpochRow) }

func (e liveEpoch) next(version uint32) erasure.ShareID {
	return erasure.ShareID{User: e.user, Epoch: e.Epoch, WrapVersion: version}
}

// behind are the live epochs of a user that are wrapped under an older shielding key.
func behind(w agentkeys.Wallet, u rules.User, version uint32) (out []liveEpoch) {
	for _, e := range []rules.EpochRow{u.Draining, u.Active} {
		drained := e.Epoch != u.Active.Epoch && e.LiveCount == 0
		if e.Epoch != 0 && !drained && shareOf(w, e).WrapVersion < version {
			out = append(out, liveEpoch{w, e})
		}
	}
	return out
}

// wrap is one job with every data key of some users that is under an older shielding
// key. Each data key has a message, a receipt and a statement of its own.
func (j *Jobs) wrap(ctx context.Context, in api.WrapRequest) (api.Job, error) {
	if len(in.Users) > api.MaxWrapUsers {
		return api.Job{}, badRequest.because("", "wrap: %d users, want at most %d", len(in.Users), api.MaxWrapUsers)
	}
	users := make([]agentkeys.Wallet, len(in.Users))
	for i, hex := range in.Users {
		var err error
		if users[i], err = agentkeys.ParseWallet(hex); err != nil {
			return api.Job{}, badRequest.because("", "%v", err)
		}
	}
	key, pub, err := j.rotator(ctx, in.Rotator)
	if err != nil {
		return api.Job{}, err
	}
	if err := j.s.freshHead(ctx); err != nil {
		return api.Job{}, err
	}
	if err := j.await(ctx, in.Height); err != nil {
		return api.Job{}, err
	}
	var epochs []liveEpoch
	err = j.users(ctx, users, func(i int, u rules.User) { epochs = append(epochs, behind(users[i], u, j.k.version())...) })
	if err != nil || len(epochs) == 0 {
		return api.Job{Kind: api.JobNone}, err
	}
	return j.wrapEpochs(ctx, epochs, key, pub)
}

// users visits the proven rows of those users that have one.
func (j *Jobs) users(ctx context.Context, users []agentkeys.Wallet, visit func(i int, u rules.User)) error {
	keys := make([][]byte, len(users))
	for i, w := range users {
		keys[i] = rules.UserKey(w)
	}
	values, _, err := j.s.cfg.Chain.Rows(ctx, keys...)
	if err != nil {
		return j.s.chainFailed(err)
	}
	for i, v := range values {
		u, ok, err := row(v, rules.ParseUser)
		if err != nil {
			return err
		}
		if ok {
			visit(i, u)
		}
	}
	return nil
}

// wrapEpochs carries data keys under the newest shielding key and fresh shares, in the
// order the rotator wants.
func (j *Jobs) wrapEpochs(ctx context.Context, epochs []liveEpoch, rotator agentkeys.ProcessKey, pub channel.PublicKeys) (api.Job, error) {
	slices.SortFunc(epochs, func(a, b liveEpoch) int {
		return cmp.Or(bytes.Compare(a.user[:], b.user[:]), cmp.Compare(a.Epoch, b.Epoch))
	})
	epochs = slices.CompactFunc(epochs, func(a, b liveEpoch) bool { return a.share() == b.share() })
	w := &job{kind: api.JobWrap, rotator: rotator, epochs: epochs, version: j.k.version()}
	j.s.step("wrap.share")
	ids := make([]erasure.ShareID, len(epochs))
	for i, e := range epochs {
		ids[i] = e.next(w.version)
	}
	if err := j.k.newShare(ctx, ids...); err != nil {
		return api.Job{}, fmt.Errorf("wrap: %w", err)
	}
	j.s.step("wrap.channel")
	return j.start(w, pub)
}

func wrapMessages(w *job, keys jobKeys) (out [][]byte, err error) {
	for _, e := range w.epochs {
		from, to, err := keys.pair(e.share(), e.next(w.version))
		if err != nil {
			return out, err
		}
		m := rotation.Job{Kind: rotation.Wrap, From: from, To: to, FromID: e.DEKID, FromSealed: e.Wrapped}
		out = append(out, m.Append(make([]byte, 0, rotation.JobSize)))
		from.Wipe()
		to.Wipe()
	}
	return out, nil
}

// wrapped takes the receipts of a wrap job, one for each of its data keys in their
// order. It opens every data key before the chain is told of any, and gives an old share
// up once its row is proven.
func (j *Jobs) wrapped(ctx context.Context, in api.JobReceipts) error {
	if len(in.Receipts) == 0 {
		return badRequest.because("", "receipts: none")
	}
	w, err := j.find(in.Receipts[0].ID)
	if err != nil {
		return err
	}
	if w.kind != api.JobWrap || len(in.Receipts) != len(w.epochs) {
		return badRequest.because("", "receipts: %d, of a job %s with %d data keys", len(in.Receipts), w.kind, len(w.epochs))
	}
	j.s.step("wrapped.check")
	var made []signedRewrap
	j.crypto.of(func() { made, err = j.rewrapped(w, in.Receipts) })
	if err != nil {
		return err
	}
	j.scrubbed(func() {
		keys := j.keys()
		defer keys.wipe()
		for i := 0; i < len(made) && err == nil; i++ {
			err = keys.open(w.epochs[i].next(w.version), made[i].m.DEKID, made[i].m.Wrapped)
		}
	})
	if err != nil {
		return err
	}
	j.s.step("wrapped.statement")
	wires := make([][]byte, len(made))
	j.crypto.of(func() {
		for i, r := range made {
			body := statement.RewrapDEK{Receipt: r.m, ValidUntil: j.s.statementValidUntil()}
			wires[i] = statement.SignProcess(j.s.cfg.State.Instance, j.s.cfg.Vault, body, &r.sig)
		}
	})
	r, err := j.s.cfg.Relay.Submit(ctx, wires)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	awaitHeight(ctx, j.s.cfg.Chain, r.Height)
	return j.wrapsProven(ctx, w, r)
}

// signedRewrap is a receipt of the rotator with its signature.
type signedRewrap struct {
	m   receipt.Rewrapped
	sig receipt.Signature
}

// rewrapped reads the receipts of a job and holds each against its data key.
func (j *Jobs) rewrapped(w *job, receipts []api.JobReceipt) ([]signedRewrap, error) {
	out := make([]signedRewrap, len(receipts))
	for i, in := range receipts {
		r := agentkeys.NewReader(slices.Concat(in.Body, in.Signature))
		m, sig := receipt.ReadRewrapped(r), receipt.ReadSignature(r)
		if r.Close() != nil || in.Kind != receipt.KindRewrapped {
			return nil, badRequest.because("", "receipt %d: wrong layout", i)
		}
		e := w.epochs[i]
		if m.Job != w.id || m.User != e.user || m.Epoch != e.Epoch || m.DEKID != e.DEKID || m.From != e.share().WrapVersion {
			return nil, badRequest.because("", "receipt %d: of another job", i)
		}
		if sig.Key != w.rotator || !sig.Verify(j.s.cfg.Vault, in.Kind, in.Body) {
			return nil, badRequest.because("Ask for the user's job again", "receipt %d: not signed by the rotator of this job", i)
		}
		out[i] = signedRewrap{m, sig}
	}
	return out, nil
}

// wrapsProven gives up the old share of each row that is proven to have left it. A row
// that stays, whatever the relay said, keeps its share.
func (j *Jobs) wrapsProven(ctx context.Context, w *job, said api.Relayed) error {
	users := make([]agentkeys.Wallet, len(w.epochs))
	for i, e := range w.epochs {
		users[i] = e.user
	}
	j.s.step("wrapped.proven")
	left := 0
	defer func() { j.behind.Add(-int64(left)) }()
	err := j.users(ctx, users, func(i int, u rules.User) {
		if old := w.epochs[i].share(); !names(u, old) {
			j.eraser.outdate(old)
			left++
		}
	})
	if err != nil {
		return err
	}
	if stay := len(w.epochs) - left; stay > 0 {
		return conflict.because("Ask for the job again", "%d of %d data keys have not moved%s", stay, len(w.epochs), refusal(said))
	}
	j.end(w)
	return nil
}

// refusal is the relay's word on the first statement that a block refused.
func refusal(said api.Relayed) string {
	for _, r := range said.Results {
		if code := rules.Code(r.Code); !code.Done() {
			return fmt.Sprintf("; the node says of one: %s: %s", code, r.Reason)
		}
	}
	return ""
}
