// Package blobstore is the custodian's and the courier's side of the object
// store: S3 and STS, whichever vendor. Normative text: docs/spec/store.md.
//
// Start with [New], which trades OIDC tokens for short sessions, one per (role,
// user), or with [NewCourier], which works on a session that a custodian handed
// out. The store is trusted with availability and isolation, never with content:
// whoever reads an object checks its hash.
package blobstore
