// Package ledger is the chain seen from outside: the client of a node's RPC, the
// light rules that decide which headers are true, the proofs that tie a row to a
// header, and the transactions that carry statements in and out. docs/spec/ledger.md
// is normative.
//
// A node is never believed. [Open] a [Client] from a trusted height, start its Run,
// and read rows with [Client.Row]: what it returns was proven against a header that
// two thirds of the validators signed. [Node] alone gives unproven answers; use it
// for what is only availability, such as sending transactions.
//
// Headers, validator sets, votes and proofs are those of CometBFT 0.38 and later and
// of ICS23 with the IAVL and Tendermint specs. Validators have Ed25519 keys.
package ledger
