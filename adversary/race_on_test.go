//go:build race

package adversary

// The race detector makes each test of a key ten times as slow: only where Go allocates
// 32 bytes.
const stride = 32
