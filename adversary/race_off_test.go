//go:build !race

package adversary

const stride = 4
