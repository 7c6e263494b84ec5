// Package adversary is the thief who kept everything. A [Recorder] writes down, while a
// real stack runs, all that somebody could have copied; [Take] then takes every secret
// there is at one moment; [Thief.Try] derives every key it can and tries it against
// every ciphertext ever. The promise holds when exactly the credentials of live epochs
// open: see [Report.Check]. Mutants show that the harness can fail: see [Mutants].
//
// The formats of trees and channel are written here a second time, from docs/spec:
// a thief does not use the vault's code.
package adversary
