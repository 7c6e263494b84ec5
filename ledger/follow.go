package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	pollEvery      = time.Second
	pingEvery      = 10 * time.Second
	firstBackoff   = time.Second
	longestBackoff = 30 * time.Second
)

// Follow calls seen with the height of every new block that it hears of, from one
// goroutine, until ctx ends; heights may be left out or come twice. It subscribes to
// the node's websocket; while that is down it asks once a second and tries again with
// growing pauses.
func (n *Node) Follow(ctx context.Context, seen func(height uint64)) error {
	pause := firstBackoff
	for ctx.Err() == nil {
		start := time.Now()
		// Why the subscription ended does not matter: polling shows whether the node lives.
		_ = n.subscribe(ctx, seen)
		if time.Since(start) > longestBackoff {
			pause = firstBackoff
		}
		n.poll(ctx, pause, seen)
		pause = min(2*pause, longestBackoff)
	}
	return ctx.Err()
}

// poll asks for the height every second for as long as it says.
func (n *Node) poll(ctx context.Context, long time.Duration, seen func(uint64)) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for range long / pollEvery {
		if s, err := n.Status(ctx); err == nil {
			seen(s.Height)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *Node) subscribe(ctx context.Context, seen func(uint64)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	url := "ws" + strings.TrimPrefix(strings.TrimSuffix(n.url, "/"), "http") + "/websocket"
	c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: n.http})
	if err != nil {
		return fmt.Errorf("node: websocket: %w", err)
	}
	defer c.CloseNow()
	c.SetReadLimit(maxAnswer)
	body, err := json.Marshal(rpcRequest{"2.0", 1, "subscribe", map[string]any{"query": "tm.event='NewBlockHeader'"}})
	if err != nil {
		return fmt.Errorf("node: websocket: %w", err)
	}
	if err := c.Write(ctx, websocket.MessageText, body); err != nil {
		return fmt.Errorf("node: websocket: %w", err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { pingLoop(ctx, cancel, c) })
	return n.readHeights(ctx, c, seen)
}

// pingLoop ends a subscription whose peer is gone without a word: an idle chain sends
// nothing, so silence alone means nothing.
func pingLoop(ctx context.Context, cancel context.CancelFunc, c *websocket.Conn) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wait, done := context.WithTimeout(ctx, pingEvery)
		err := c.Ping(wait)
		done()
		if err != nil {
			cancel()
			return
		}
	}
}

// readHeights reads events. Once the subscription is answered it asks for the height:
// a block made between the last poll and the subscription has no event, and on an
// idle chain no other block would come to show it.
func (n *Node) readHeights(ctx context.Context, c *websocket.Conn, seen func(uint64)) error {
	for {
		_, b, err := c.Read(ctx)
		if err != nil {
			return fmt.Errorf("node: websocket: %w", err)
		}
		height, err := parseHeadEvent(b)
		if err != nil {
			return err
		}
		if height == 0 {
			s, err := n.Status(ctx)
			if err != nil {
				return err
			}
			height = s.Height
		}
		seen(height)
	}
}

// parseHeadEvent gives the height of a NewBlockHeader event, 0 for the answer to the
// subscription itself.
func parseHeadEvent(b []byte) (uint64, error) {
	var event struct {
		Data struct {
			Value struct {
				Header struct {
					Height uint64 `json:"height,string"`
				} `json:"header"`
			} `json:"value"`
		} `json:"data"`
	}
	if err := decodeAnswer(b, "subscribe", false, &event); err != nil {
		return 0, err
	}
	return event.Data.Value.Header.Height, nil
}
