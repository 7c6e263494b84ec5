package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/cometbft/cometbft/rpc/client/local"
	gogogateway "github.com/cosmos/gogogateway"
	gateway "github.com/grpc-ecosystem/grpc-gateway/runtime"
	"google.golang.org/grpc"

	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
)

// queries serves the application's queries by gRPC and as HTTP GET. Answers carry
// no proofs; the RPC's abci_query does.
type queries struct {
	grpc    *grpc.Server
	gateway *http.Server
	done    sync.WaitGroup
}

// startQueries starts the servers that the configuration names.
func (n *Node) startQueries() (*queries, error) {
	q := new(queries)
	if n.c.GRPC != "" {
		q.grpc = grpc.NewServer(grpc.ForceServerCodec(codec.NewProtoCodec(n.app.Codec.InterfaceRegistry()).GRPCCodec()))
		n.app.RegisterGRPCServer(q.grpc)
		if err := q.listen("grpc", n.c.GRPC, q.grpc.Serve); err != nil {
			return nil, err
		}
	}
	if n.c.Gateway != "" {
		q.gateway = &http.Server{Handler: n.gatewayMux(), ReadHeaderTimeout: 5 * time.Second}
		if err := q.listen("gateway", n.c.Gateway, q.gateway.Serve); err != nil {
			return nil, errors.Join(err, q.stop())
		}
	}
	return q, nil
}

func (q *queries) listen(what, address string, serve func(net.Listener) error) error {
	address, err := loopback(what, address)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	q.done.Go(func() { _ = serve(l) })
	return nil
}

// gatewayMux asks the application in process.
func (n *Node) gatewayMux() *gateway.ServeMux {
	registry := n.app.Codec.InterfaceRegistry()
	mux := gateway.NewServeMux(gateway.WithMarshalerOption(gateway.MIMEWildcard,
		&gogogateway.JSONPb{OrigName: true, EmitDefaults: true, AnyResolver: registry}))
	c := client.Context{}.WithClient(local.New(n.comet)).WithInterfaceRegistry(registry).WithCodec(n.app.Codec)
	n.app.Basics.RegisterGRPCGatewayRoutes(c, mux)
	return mux
}

// stop ends the servers and waits for them.
func (q *queries) stop() (err error) {
	if q.grpc != nil {
		q.grpc.Stop()
	}
	if q.gateway != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err = q.gateway.Shutdown(ctx)
	}
	q.done.Wait()
	return err
}
