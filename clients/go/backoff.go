package tidings

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff makes pauses with full jitter: a random part of a time that doubles with each failure in a row.
type Backoff struct {
	First, Longest time.Duration
}

// pause returns how long to wait after so many failures in a row; never less than what the server advised.
func (b Backoff) pause(failures int, advised time.Duration) time.Duration {
	most := b.Longest
	if failures < 30 {
		most = min(most, b.First<<failures)
	}
	return advised + rand.N(most+1)
}

// sleep waits. The error is that of the context.
func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
