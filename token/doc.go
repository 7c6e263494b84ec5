// Package token makes and checks the two tokens of a custodian, both JWTs signed
// with ES256: the session that a client shows (docs/spec/token.md, "Session"), and
// the web identity that the object store's STS trades for credentials ("Identity").
// The algorithm is fixed: a token that names another one is no token.
package token
