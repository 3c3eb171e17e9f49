package tidings

import (
	"context"
	"fmt"
	"sync"
)

// acks is what was acknowledged, by channel. A goroutine sends the newest offset of each channel. A failure is repeated
// with the next event of the channel, or when the subscription has resumed.
type acks struct {
	send   func(ctx context.Context, channel string, offset uint64) error
	failed func(channel string, err error)
	ended  context.Context

	mu      sync.Mutex
	acked   map[string]Position
	unsent  map[string]bool
	sending bool
	// idle is closed when nothing is unsent.
	idle chan struct{}
}

func newAcks(
	ended context.Context, send func(context.Context, string, uint64) error, failed func(string, error),
) *acks {
	return &acks{send: send, failed: failed, ended: ended, acked: map[string]Position{}, unsent: map[string]bool{}}
}

// resumed is for a subscription that resumes at this cursor. It returns the position behind which events are new.
func (a *acks) resumed(channel string, cursor Position) Position {
	a.mu.Lock()
	defer a.mu.Unlock()
	mine, known := a.acked[channel]
	if !known || mine.Epoch != cursor.Epoch || mine.Offset <= cursor.Offset {
		a.acked[channel] = cursor
		delete(a.unsent, channel)
		return cursor
	}
	// An acknowledgement that the server has not received is repeated, not its events.
	a.put(channel)
	return mine
}

// handled acknowledges in the background.
func (a *acks) handled(channel string, position Position) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.move(channel, position) {
		a.put(channel)
	}
}

// ack acknowledges, and waits until the server has stored it.
func (a *acks) ack(ctx context.Context, channel string, offset uint64) error {
	a.mu.Lock()
	known, has := a.acked[channel]
	moved := has && a.move(channel, Position{known.Epoch, offset})
	a.mu.Unlock()
	if !has {
		return &Error{Code: "failed_precondition", Message: fmt.Sprintf("%s: not a durable subscription", channel), Channel: channel}
	}
	if !moved {
		return nil
	}
	return a.send(ctx, channel, offset)
}

// flush waits until nothing is unsent.
func (a *acks) flush(ctx context.Context) {
	a.mu.Lock()
	idle := a.idle
	if !a.sending {
		idle = nil
	}
	a.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// move needs the lock.
func (a *acks) move(channel string, position Position) bool {
	known, has := a.acked[channel]
	if has && known.Epoch == position.Epoch && known.Offset >= position.Offset {
		return false
	}
	a.acked[channel] = position
	return true
}

// put needs the lock.
func (a *acks) put(channel string) {
	a.unsent[channel] = true
	if !a.sending {
		a.sending = true
		a.idle = make(chan struct{})
		go a.run()
	}
}

func (a *acks) run() {
	for {
		a.mu.Lock()
		channel, found := "", false
		for channel = range a.unsent {
			found = true
			break
		}
		if !found {
			a.sending = false
			close(a.idle)
			a.mu.Unlock()
			return
		}
		delete(a.unsent, channel)
		offset := a.acked[channel].Offset
		a.mu.Unlock()
		if err := a.send(a.ended, channel, offset); err != nil && a.failed != nil {
			a.failed(channel, err)
		}
	}
}
