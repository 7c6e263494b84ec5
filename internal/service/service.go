// Package service is how every server of AgentKeys behaves as a child: it says on
// descriptor 3 when it is ready, and it stops on SIGTERM, on SIGINT, and with
// --stop-on-eof when its standard input closes.
package service

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// Context ends on SIGTERM or SIGINT, and with stopOnEOF when standard input closes:
// a server does not outlive its supervisor.
func Context(stopOnEOF bool) (context.Context, context.CancelFunc) {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	if stopOnEOF {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	return ctx, cancel
}

// Tune lets the heap grow further between collections than Go's default: these
// servers keep little and allocate much for each request. The limit is soft: above it
// the collector works as hard as it takes.
func Tune() {
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(96 << 20)
}

// Ready writes the line "ready {json}" to descriptor 3 if the parent opened it, and
// to standard output otherwise.
func Ready(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("ready %s\n", b)
	f := os.NewFile(3, "ready")
	if f != nil {
		if st, err := f.Stat(); err == nil && st.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0 {
			defer f.Close()
			_, err := f.WriteString(line)
			return err
		}
	}
	_, err = os.Stdout.WriteString(line)
	return err
}

// Logger writes JSON lines to standard error.
func Logger(name string, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("process", name)
}
