package auditor

import (
	"bytes"
	"maps"
	"slices"

	"example.org/agentkeys"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/rules"
	"example.org/agentkeys/statement"
)

// touchedRow tells the rows that only help caches: there is one for each block, and
// the newest, which is proven, names the one before it.
func touchedRow(key string) bool {
	return len(key) == len(rules.TouchedKey(0)) && key[0] == rules.TouchedKey(0)[0]
}

// wanted lists the keys whose rows a bundle proves, sorted: all that a statement ever
// wrote, deleted ones too.
func (r *replay) wanted() [][]byte {
	var out [][]byte
	for _, k := range slices.Sorted(maps.Keys(r.keys)) {
		if !touchedRow(k) {
			out = append(out, []byte(k))
		}
	}
	return out
}

// earlyKeys are proven near the beginning: no statement made them.
func earlyKeys() [][]byte {
	return [][]byte{rules.ParamsKey(), rules.VaultKey(), rules.SystemKey()} // in ascending order
}

// rows holds every replayed row against the proven one.
func (v *verifier) rows() {
	var f findings
	compare(&f, v.replay.rows, v.replay.wanted(), v.bundle.Rows, v.appHash(v.bundle.StateHeight), v.bundle.StateHeight)
	compare(&f, v.replay.early, earlyKeys(), v.bundle.Early, v.appHash(v.bundle.EarlyHeight), v.bundle.EarlyHeight)
	v.report.check("rows", Proved, f, "%d rows after block %d are, byte for byte, what the statements make of the vault's first rows",
		len(v.bundle.Rows), v.bundle.StateHeight)
}

// appHash commits to the state after a block; the next header has it.
func (v *verifier) appHash(height uint64) []byte { return v.chain[height].Header.AppHash }

func compare(f *findings, replayed memory, keys [][]byte, rows []Row, appHash []byte, height uint64) {
	proven := map[string][]byte{}
	for i, row := range rows {
		name := rowName(row.Key)
		if i > 0 && bytes.Compare(rows[i-1].Key, row.Key) >= 0 {
			f.add("%s stands twice in the bundle or out of order", name)
		}
		var err error
		if len(row.Value) == 0 {
			err = ledger.VerifyAbsent(appHash, storeName, row.Key, row.Proof)
		} else {
			err = ledger.VerifyRow(appHash, storeName, row.Key, row.Value, row.Proof)
		}
		if err != nil {
			f.add("%s: %v", name, err)
			continue
		}
		proven[string(row.Key)] = row.Value
		if want := replayed[string(row.Key)]; !bytes.Equal(want, row.Value) {
			f.add("%s after block %d: the chain holds %s, the statements make %s", name, height, short(row.Value), short(want))
		}
	}
	for _, key := range keys {
		if _, ok := proven[string(key)]; !ok {
			f.add("%s is not proven after block %d", rowName(key), height)
		}
	}
}

func short(b []byte) string {
	if len(b) == 0 {
		return "nothing"
	}
	return agentkeys.Hash(statement.Hash(b)).String()[:16] + "…"
}

// rowName names a row for people.
func rowName(key []byte) string {
	if s, ok := rules.ParsePointerKey(key); ok {
		return "pointer row of " + s.User.String() + ", service " + s.Service.String()[:8]
	}
	if s, ok := rules.ParseGrantKey(key); ok {
		return "grant row of " + s.Agent.String() + " at " + s.User.String()
	}
	if user, agent, ok := rules.ParseAgentKey(key); ok {
		return "agent row of " + agent.String() + " at " + user.String()
	}
	if u, ok := rules.Owner(key); ok {
		return "user row of " + u.String()
	}
	for name, k := range map[string][]byte{"vault row": rules.VaultKey(), "params row": rules.ParamsKey(), "system row": rules.SystemKey(),
		"anchors row": rules.AnchorsKey(), "touched row": rules.TouchedHeadKey()} {
		if bytes.Equal(key, k) {
			return name
		}
	}
	return "row " + agentkeys.DEKID(statement.Hash(key)).String()[:16]
}

// proven finds a row of the bundle; rows has checked its proof.
func (v *verifier) proven(key []byte) []byte {
	i, ok := slices.BinarySearchFunc(v.bundle.Rows, key, func(r Row, k []byte) int { return bytes.Compare(r.Key, k) })
	if !ok {
		return nil
	}
	return v.bundle.Rows[i].Value
}

// logs rehashes each log from the statements alone and holds it against the row.
func (v *verifier) logs() {
	var f findings
	type log struct {
		rev  uint64
		hash agentkeys.Hash
	}
	users, system := map[agentkeys.Wallet]log{}, log{}
	for _, e := range v.replay.entries {
		at := system
		if e.user != nil {
			at = users[*e.user]
		}
		at = log{at.rev + 1, rules.NextLog(at.hash, e.block, statement.Hash(e.wire))}
		if e.user != nil {
			users[*e.user] = at
		} else {
			system = at
		}
	}
	for u, want := range users {
		row, err := rules.ParseUser(v.proven(rules.UserKey(u)))
		if err != nil || row.Rev != want.rev || row.Log != want.hash {
			f.add("user %s: %d statements give another log than the proven one, which counts %d: one is missing, added or altered", u, want.rev, row.Rev)
		}
	}
	row, err := rules.ParseSystem(v.proven(rules.SystemKey()))
	if err != nil || row.Rev != system.rev || row.Log != system.hash {
		f.add("system: %d statements give another log than the proven one, which counts %d", system.rev, row.Rev)
	}
	v.report.check("logs", Proved, f, "each user's statements (users: %d) and the system's hash to the proven logs: none is missing, added or altered", len(users))
}

// counts checks that the rows shown are all there are: users, live epochs and
// pointers are counted by rows that are proven themselves.
func (v *verifier) counts() {
	var f findings
	var rows []rules.Row
	for _, r := range v.bundle.Rows {
		if len(r.Value) > 0 {
			rows = append(rows, rules.Row{Key: r.Key, Value: r.Value})
		}
	}
	if err := rules.CheckRows(rows); err != nil {
		f.add("%v", err)
	}
	v.report.check("completeness", Proved, f, "the proven counts of users, live epochs and credentials are exactly the rows shown: none is hidden")
}
