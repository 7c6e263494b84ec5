// Package proxy puts secrets on the wire for processes that never hold them. A child
// sends its calls through it with a placeholder; on the way to a host that the owner
// named, and nowhere else, the secret takes its place; what comes back is searched for
// the secret and masked.
//
// Two halves meet in proxy.go. The engine carries calls: listener and tunnels
// (server.go, tunnel.go, link.go), certificates (ca.go), one request and its answer
// (exchange.go) and its end at a revocation (cut.go), secrets on the wire (inject.go,
// sigv4.go), their echoes (mask.go), which addresses may be dialled (dial.go). The
// keeper knows the children and holds their leases: a value at most a minute, and
// never past a revocation.
//
// What may be learnt from the log: host, status, agent, service and verdict. No path,
// query, header or body is ever written.
package proxy
