package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
)

// Queries that come while others are on their way go together in one request: under
// load the request costs more than the proof in it.
const (
	maxBatch   = 10 // what a node takes unless told otherwise
	maxFlights = 2
)

// batcher collects queries. Nobody waits for company: a query goes at once while fewer
// than maxFlights requests are out.
type batcher struct {
	mu      sync.Mutex
	waiting []*query
	flights int
}

type query struct {
	params map[string]any
	done   chan struct{}
	answer Answer
	err    error
}

// ask answers one query, alone or with others. A caller that gives up leaves its query
// to the others.
func (n *Node) ask(ctx context.Context, params map[string]any) (Answer, error) {
	q := &query{params: params, done: make(chan struct{})}
	b := &n.batch
	b.mu.Lock()
	b.waiting = append(b.waiting, q)
	start := b.flights < maxFlights
	if start {
		b.flights++
	}
	b.mu.Unlock()
	if start {
		go n.fly() // ends when nothing waits; every request in it is bounded by callTimeout
	}
	select {
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	case <-q.done:
		return q.answer, q.err
	}
}

func (n *Node) fly() {
	b := &n.batch
	for {
		b.mu.Lock()
		batch := b.waiting[:min(len(b.waiting), maxBatch)]
		b.waiting = b.waiting[len(batch):]
		if len(batch) == 0 {
			b.waiting = nil
			b.flights--
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		n.together(batch)
		for _, q := range batch {
			close(q.done)
		}
	}
}

// together sends a batch; a single query goes as it would alone.
func (n *Node) together(batch []*query) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if len(batch) == 1 {
		batch[0].answer, batch[0].err = n.queryOne(ctx, batch[0].params)
		return
	}
	requests := make([]rpcRequest, len(batch))
	for i, q := range batch {
		requests[i] = rpcRequest{"2.0", i, "abci_query", q.params}
	}
	b, err := n.post(ctx, "abci_query", requests, int64(len(batch))*maxAnswer)
	var answers []struct {
		ID int `json:"id"`
		rpcAnswer
	}
	if err == nil && json.Unmarshal(b, &answers) != nil {
		err = errors.New("node: abci_query: not the answers to a batch")
	}
	for _, q := range batch {
		q.err = err
		if err == nil {
			q.err = errors.New("node: abci_query: no answer in its batch")
		}
	}
	for _, a := range answers {
		if err == nil && a.ID >= 0 && a.ID < len(batch) {
			batch[a.ID].answer, batch[a.ID].err = answerOf(a.rpcAnswer)
		}
	}
}

func answerOf(a rpcAnswer) (Answer, error) {
	if a.Error != nil {
		return Answer{}, a.Error
	}
	var r queryResult
	if err := json.Unmarshal(a.Result, &r); err != nil {
		return Answer{}, fmt.Errorf("node: abci_query: %w", err)
	}
	return r.Response, nil
}

type queryResult struct {
	Response Answer `json:"response"`
}

func (n *Node) queryOne(ctx context.Context, params map[string]any) (Answer, error) {
	var r queryResult
	err := n.call(ctx, "abci_query", params, maxAnswer, false, &r)
	return r.Response, err
}
