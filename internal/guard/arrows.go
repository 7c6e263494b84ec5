package guard

import (
	"fmt"
	"slices"
	"strings"
)

// module is the path of the root module; the names below are relative to it, and
// root stands for the root package.
const (
	module = "example.org/agentkeys"
	root   = "agentkeys"
)

// arrow is a package, what it is, and which of our own packages its code may
// import. Tests may import more; an import that is missing here fails.
type arrow struct {
	name, what string
	imports    string // names, separated by spaces
}

// arrows lists every package of the root module, lowest first: each may import only
// packages above it.
func arrows() []arrow {
	return []arrow{
		{root, "the words: ids, services, tags, Secret, Reader", ""},
		{"receipt", "what the rotator signs over a job", "agentkeys"},
		{"statement", "what wallets, processes and the authority say: bytes and signatures", "agentkeys receipt"},
		{"record", "read records, segments, their roots and heads", "agentkeys"},
		{"eip712", "how wallets sign statements; service ids", "agentkeys statement"},
		{"envelope", "Seal, Open, Reseal; data keys and their wrapping", "agentkeys"},
		{"seed", "the master seed's labels: shielding keys, tag keys, issuers", "agentkeys envelope"},
		{"credential", "what an envelope holds: value, kind, header template, host rules", "agentkeys"},
		{"rules", "the vault's state machine: rows, keys, bytes, Apply", "agentkeys eip712 receipt record statement"},
		{"rules/rulestest", "a vault on a map, for tests of other packages", "agentkeys eip712 receipt rules statement"},
		{"ledger", "the chain from outside: light rules, proofs, transactions, Await", "agentkeys rules"},
		{"erasure", "shares in encrypted trees, anchors, the commit that forgets", "agentkeys"},
		{"erasure/anchortest", "the contract every anchor is held to", "erasure"},
		{"erasure/anchortest/emulator", "a TPM and a PKCS#11 token in software, for tests", ""},
		{"erasure/wrapanchor", "roots wrapped under a key each, for devices that hold keys", "agentkeys erasure"},
		{"erasure/tpmanchor", "anchor in the NV memory of a TPM 2.0", "erasure"},
		{"erasure/pkcs11anchor", "anchor on a PKCS#11 token; the token itself needs cgo", "erasure erasure/wrapanchor"},
		{"erasure/kmsanchor", "anchor on AWS KMS: imported material that is deleted", "erasure erasure/wrapanchor"},
		{"erasure/kmsanchor/fakekms", "a KMS with AWS's rules of imported keys, for tests", ""},
		{"blobstore", "S3 and STS: names, roles, sessions, deleting", "agentkeys"},
		{"blobstore/conformance", "the contract every store is held to", "agentkeys blobstore"},
		{"token", "sessions of clients and tokens for STS (ES256)", "agentkeys"},
		{"attest", "measurements and evidence", "agentkeys statement"},
		{"channel", "the sealed channel between custodian and rotator (Noise, ML-KEM)", "agentkeys"},
		{"rotation", "the jobs that go through that channel", "agentkeys envelope receipt"},
		{"api", "HTTP bodies, errors, paths; the pinned dialer", "agentkeys"},
		{"custodian", "TEE-A: authorises, seals, opens; one flow a file", "agentkeys api attest blobstore channel credential eip712 envelope erasure ledger receipt record rotation rules seed statement token"},
		{"rotator", "TEE-B: makes, re-seals and forgets data keys", "agentkeys channel envelope receipt rotation"},
		{"operator", "relay, scheduler, courier; starts the rotator", "agentkeys api blobstore channel envelope ledger receipt rotation rules statement"},
		{"client", "the Go SDK of users and agents", "agentkeys api credential eip712 record seed statement"},
		{"proxy", "puts secrets on the wire for processes that never hold them", "agentkeys api client credential"},
		{"auditor", "what `agentkeys verify` does", "agentkeys attest ledger receipt record rules seed statement"},
		{"internal/service", "how a server says that it is ready, stops, and reads a secret from a file", ""},
		{"internal/devstack", "the development stack and its supervisor", "agentkeys attest erasure ledger rules statement"},
		{"internal/thief", "the thief of `agentkeys demo`: opens what can be opened", "agentkeys envelope erasure ledger receipt seed statement"},
		{"adversary", "the thief who kept everything, on the real stack; the mutants that must be caught", "agentkeys blobstore channel credential envelope ledger receipt rotation rules seed statement token"},
		{"internal/sandbox", "shuts the rotator in: namespaces, landlock, seccomp", ""},
		{"internal/guard", "this table and the other guards", ""},
		{"cmd/agentkeys", "the command of people and agents", "agentkeys api auditor client credential eip712 internal/devstack internal/service internal/thief ledger proxy record rules seed statement"},
		{"cmd/agentkeys-custodian", "TEE-A as a process", "agentkeys attest blobstore custodian erasure erasure/kmsanchor erasure/pkcs11anchor erasure/tpmanchor internal/service ledger statement token"},
		{"cmd/agentkeys-rotator", "TEE-B as a process", "agentkeys attest internal/sandbox rotator"},
		{"cmd/agentkeys-operator", "the operator as a process", "agentkeys api attest internal/service ledger operator rules statement"},
		{"e2e", "tests of the whole on real processes", ""},
		{"model", "the share tree and its keepers as a model, checked by Spin", ""},
		{"scripts", "tests of the scripts", ""},
		{"scripts/testsum", "counts tests for `make test`", ""},
	}
}

// nameOf is the name of an import path; ok is false for packages that are not ours.
func nameOf(importPath string) (name string, ok bool) {
	if importPath == module {
		return root, true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// table prints the arrows as ARCHITECTURE.md shows them.
func table() string {
	var b strings.Builder
	b.WriteString("| package | what it is | may import of ours |\n|---|---|---|\n")
	for _, a := range arrows() {
		imports := a.imports
		if imports == "" {
			imports = "nothing"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", a.name, a.what, imports)
	}
	return b.String()
}

// breaches compares what packages import with the table. Each line is one fault.
func breaches(table []arrow, imports map[string][]string) (faults []string) {
	allowed := map[string][]string{}
	for _, a := range table {
		above := make([]string, 0, len(allowed))
		for name := range allowed {
			above = append(above, name)
		}
		allowed[a.name] = strings.Fields(a.imports)
		for _, to := range allowed[a.name] {
			if !slices.Contains(above, to) {
				faults = append(faults, fmt.Sprintf("the table lets %s import %s, which is not above it", a.name, to))
			}
			if got, ok := imports[a.name]; ok && !slices.Contains(got, to) {
				faults = append(faults, fmt.Sprintf("the table lets %s import %s, and it does not", a.name, to))
			}
		}
		if _, ok := imports[a.name]; !ok {
			faults = append(faults, "the table names "+a.name+", which does not exist")
		}
	}
	for from, tos := range imports {
		list, ok := allowed[from]
		if !ok {
			faults = append(faults, from+" is not in the table")
			continue
		}
		for _, to := range tos {
			if !slices.Contains(list, to) {
				faults = append(faults, fmt.Sprintf("%s imports %s, which the table does not allow", from, to))
			}
		}
	}
	slices.Sort(faults)
	return faults
}
