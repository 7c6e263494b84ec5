package devcloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// stopGrace is how long requests in flight may take after the end was asked for.
const stopGrace = 5 * time.Second

// Run serves S3 and STS until ctx ends, then finishes what is in flight and returns
// nil. Objects are durable before they are acknowledged; sessions live in memory.
func Run(ctx context.Context, c Config) error {
	err := run(ctx, c)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil // asked to stop while still starting
	}
	return err
}

func run(ctx context.Context, c Config) error {
	c, err := c.complete()
	if err != nil {
		return err
	}
	lock, err := lockDir(c.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	roles, err := loadRoles(c)
	if err != nil {
		return err
	}
	be, err := openBackend(ctx, c)
	if err != nil {
		return err
	}
	stsListener, err := net.Listen("tcp", c.STSAddr)
	if err != nil {
		return addressError("STS", c.STSAddr, err)
	}
	s3Addr, err := settle(c.S3Addr)
	if err != nil {
		stsListener.Close()
		return addressError("S3", c.S3Addr, err)
	}
	live := &sessions{live: map[string]*session{}}
	tokens := &tokenService{cfg: c, keys: &keySet{path: c.JWKSFile}, roles: roles, sessions: live, log: slog.Default()}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveSTS(ctx, stsListener, tokens) })
	group.Go(func() error {
		err := serveS3(ctx, be, live, s3Addr, func() {
			if c.Ready != nil {
				c.Ready(Endpoints{S3: "http://" + s3Addr, STS: "http://" + stsListener.Addr().String()})
			}
		})
		if err == nil && ctx.Err() == nil {
			return errors.New("S3 server stopped by itself")
		}
		return err
	})
	return group.Wait()
}

func serveSTS(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("STS server: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	err := server.Shutdown(grace)
	<-failed
	return err
}

// settle tries an address and, for port 0, picks a port. The gateway listens by
// itself, so the address is free again when settle returns.
func settle(addr string) (string, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func addressError(server, addr string, err error) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("%s address: %s is in use; stop the other process or choose another port", server, addr)
	}
	return fmt.Errorf("%s address: %w", server, err)
}
