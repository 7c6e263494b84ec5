package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// pace is config/pace.json: how long this node waits between blocks.
type pace struct {
	TimeoutCommit string `json:"timeout_commit"`
}

func paceFile(dir string) string { return filepath.Join(dir, "config", "pace.json") }

// setPace records how long the node at dir waits between blocks.
func setPace(dir string, timeoutCommit time.Duration) error {
	b, err := json.Marshal(pace{TimeoutCommit: timeoutCommit.String()})
	if err != nil {
		return err
	}
	return writeSynced(paceFile(dir), append(b, '\n'))
}

// Pace reads what init recorded, 0 if nothing was.
func Pace(dir string) (time.Duration, error) {
	b, err := os.ReadFile(paceFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var p pace
	if err := json.Unmarshal(b, &p); err != nil {
		return 0, fmt.Errorf("pace: %s: %w", paceFile(dir), err)
	}
	return time.ParseDuration(p.TimeoutCommit)
}
