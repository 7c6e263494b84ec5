// Package chain is the root of the module of the chain: x/vault, the module that
// runs package rules in consensus; app, the application around it; node and
// cmd/agentkeysd, which run it. The package itself holds only tests: they hold the
// light rules, proofs and transactions of example.org/agentkeys/ledger, which knows
// neither CometBFT nor the Cosmos SDK, against both.
package chain
