// Package vault is the shell that runs package rules in consensus: it carries
// statements in by MsgSubmit, acts of the authority by MsgAuthority, charges gas,
// and keeps each statement apart from the others of its transaction. Every rule
// about rows is in rules; docs/spec/chain.md is normative for the messages.
//
// Another Cosmos SDK chain takes it with [NewKeeper] and [NewAppModule].
package vault

const (
	// ModuleName names the module in genesis.
	ModuleName = "vault"
	// StoreKey names the store whose rows are proved to clients.
	StoreKey = "vault"
	// TransientKey names the store that is emptied after every block.
	TransientKey = "transient_vault"
	// MaxStatements is the most statements or acts that one message carries.
	MaxStatements = 512
)
