package node

import (
	"log/slog"
	"sync/atomic"

	cometlog "github.com/cometbft/cometbft/libs/log"
)

// cometLogger lets CometBFT write to slog. While the node stops, CometBFT reports
// its own closed listeners as errors; nobody should be woken by that.
type cometLogger struct {
	*slog.Logger
	stopping *atomic.Bool
}

func (l cometLogger) With(keyvals ...any) cometlog.Logger {
	return cometLogger{l.Logger.With(keyvals...), l.stopping}
}

func (l cometLogger) Error(msg string, keyvals ...any) {
	if l.stopping.Load() {
		l.Logger.Info(msg, keyvals...)
		return
	}
	l.Logger.Error(msg, keyvals...)
}
