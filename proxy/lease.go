package proxy

import (
	"context"

	"example.org/agentkeys"
	"example.org/agentkeys/api"
	"example.org/agentkeys/client"
)

// vault is the custodian as this proxy's session sees it.
type vault interface {
	Use(ctx context.Context, d api.Delegation, name agentkeys.Service, instance string) (client.Lease, error)
	Watch(ctx context.Context, in api.Watch) (api.Watched, error)
}
