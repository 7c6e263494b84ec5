// Package e2e tests the whole on real processes: node, store, custodian, operator
// and rotator of one development stack, and the command as a person runs it. The
// tests need the built binaries: make test, or AGENTKEYS_BIN naming their directory.
package e2e
