// Package auditor checks a vault for somebody who trusts nobody: it collects
// everything into one file ([Fetch], [Bundle]) and checks that file without a
// network ([Verify]). docs/spec/verify.md says what each check proves.
//
// Every header is checked by the light rules, every statement since the first block
// is applied again by package rules, and every row that this gives must be the row
// that the chain proves, byte for byte.
package auditor

import (
	"time"

	"example.org/agentkeys"
	"example.org/agentkeys/ledger"
	"example.org/agentkeys/seed"
)

// storeName is the store of the chain that holds the vault's rows.
const storeName = "vault"

// DefaultPeriod is how old the trusted header may be.
const DefaultPeriod = 365 * 24 * time.Hour

// Trust is what the verifier knows from elsewhere; nothing in a bundle can stand in
// for it.
type Trust struct {
	ChainID string
	Vault   agentkeys.VaultID
	Header  ledger.Trust  // at any height of the bundle
	Period  time.Duration // 0 means DefaultPeriod
	Now     time.Time
	Seen    []Seen // headers that the verifier's own clients saw
}

// Seen is a header that somebody saw before: another one at its height is a fork.
type Seen struct {
	Height uint64
	Hash   agentkeys.Hash
	Source string // for people
}

// Viewing names the services of one user by its viewing key.
type Viewing struct {
	User agentkeys.Wallet
	Key  seed.TagKey
}

// verifier is one run of Verify.
type verifier struct {
	bundle  *Bundle
	trust   Trust
	viewing []Viewing
	report  *Report
	chain   []Block // the headers at heights 1, 2, ...
	replay  *replay
}

// Verify checks a bundle. What does not hold is in the report, with as much as still
// can be told about the rest; ask [Report.OK]. It neither reads nor changes anything
// outside its arguments.
func Verify(b *Bundle, t Trust, viewing ...Viewing) *Report {
	if t.Period == 0 {
		t.Period = DefaultPeriod
	}
	v := &verifier{bundle: b, trust: t, viewing: viewing, report: &Report{ChainID: b.ChainID, Vault: t.Vault.String()}}
	if !v.order() {
		v.report.count()
		return v.report
	}
	v.headers()
	v.forks()
	v.blocks()
	v.applied()
	v.processes()
	v.epochs()
	v.rows()
	v.logs()
	v.counts()
	v.reads()
	v.assumed()
	v.users()
	v.report.count()
	return v.report
}
