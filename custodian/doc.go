// Package custodian is the server that authorises, seals and opens (TEE-A). It
// keeps the sealed master seed, its own statement key and the outbox of read
// records, and believes nothing of the chain, the store or the operator that is
// not proven by a row, a hash or a signature (docs/spec/api.md).
//
// Start with [OpenState], [New] and [Server.Run]. One flow is one file: login.go,
// read.go, write.go, list.go, statement.go, reads.go. Every flow asks
// [Server.authorise], the only way to a data key.
package custodian
