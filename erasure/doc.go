// Package erasure keeps the erasable shares: 32 random bytes of one (user,
// epoch, wrap version) without which a wrapped data key stays closed. It is
// specified in docs/spec/erasure.md and called by the custodian alone.
//
// Start with [Open] for one anchor and [Set] for all of them. A [Tree] lives in
// the object store, sealed under a 32-byte root that only the [Anchor] holds.
// [Tree.Commit] seals what stays under a fresh root and has the anchor destroy
// the old one; whoever later takes the anchor, the shielding key and every
// version of every object cannot open what was erased.
//
// State: the objects under tree/<anchor>/, written by Tree, durable before a
// call returns; the roots in the anchor, staged and destroyed by Tree; the
// Anchor row on the chain, which alone says which root counts. A restart loads
// all live shares into memory and the next Commit finishes what a crash cut
// short.
package erasure
