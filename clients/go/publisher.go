package tidings

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	pb "github.com/tidings/tidings/clients/go/tidingsv1"
)

// Publisher publishes events in order without waiting for each.
//
// If its stream breaks, unacknowledged events are sent again in order, and their idempotency keys prevent duplicates. An
// event over the rate limit is sent again after the advised delay, behind others.
type Publisher struct {
	client *Client
	ended  context.Context
	end    context.CancelFunc
	// slots has one entry for each unacknowledged event.
	slots chan struct{}
	done  chan struct{}

	mu      sync.Mutex
	waiting []*Pending
	sent    []*Pending
	paused  map[*Pending]*time.Timer
	failure error
	// work wakes the writer, idle those in Flush.
	work chan struct{}
	idle *sync.Cond
}

// Pending is an event that was given to a [Publisher].
type Pending struct {
	request  *pb.PublishRequest
	expires  time.Time
	failures int
	done     chan struct{}
	settle   sync.Once
	outcome  Outcome
}

// Done is closed when there is an outcome.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Wait waits for the outcome.
func (p *Pending) Wait(ctx context.Context) (*Published, error) {
	select {
	case <-p.done:
		return p.outcome.Published, p.outcome.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Publisher returns a stream for many events, of which at most `inFlight` are unacknowledged. Close it after use.
func (c *Client) Publisher(inFlight int) (*Publisher, error) {
	if inFlight < 1 {
		return nil, errors.New("tidings: inFlight: expected 1 or more")
	}
	ended, end := context.WithCancel(c.closed)
	p := &Publisher{
		client: c, ended: ended, end: end, slots: make(chan struct{}, inFlight), done: make(chan struct{}),
		paused: map[*Pending]*time.Timer{}, work: make(chan struct{}, 1),
	}
	p.idle = sync.NewCond(&p.mu)
	go p.run()
	go p.expire()
	return p, nil
}

// Publish queues an event once there is space.
func (p *Publisher) Publish(ctx context.Context, event NewEvent) (*Pending, error) {
	request, err := requestOf(event)
	if err != nil {
		return nil, err
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.ended.Done():
		return nil, ErrClosed
	}
	item := &Pending{request: request, expires: time.Now().Add(p.client.timeout), done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended.Err() != nil {
		<-p.slots
		return nil, ErrClosed
	}
	p.waiting = append(p.waiting, item)
	p.wake()
	return item, nil
}

// Flush waits until every event has an outcome. It returns the first failure since the last call.
func (p *Publisher) Flush(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.idle.Broadcast()
	})()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.pending() > 0 && ctx.Err() == nil {
		p.idle.Wait()
	}
	if p.pending() > 0 {
		return ctx.Err()
	}
	failure := p.failure
	p.failure = nil
	return failure
}

// Close ends the publisher. Events without an outcome get [ErrClosed]; call Flush before to wait for them.
func (p *Publisher) Close() {
	p.end()
	<-p.done
}

func (p *Publisher) pending() int { return len(p.waiting) + len(p.sent) + len(p.paused) }

// run keeps a stream open while there are events to publish.
func (p *Publisher) run() {
	defer p.stopped()
	failures, renewed := 0, false
	for {
		if !p.hasWork() {
			return
		}
		answered, token, err := p.stream()
		if p.ended.Err() != nil {
			return
		}
		if answered > 0 {
			failures, renewed = 0, false
		}
		failure := failureOf(err)
		p.sendAgain(failure)
		if failure.Code == "unauthenticated" && !renewed && p.client.tokens.refused(token) {
			renewed = true
			continue
		}
		if !failure.passing() {
			p.failAll(failure)
			continue
		}
		if sleep(p.ended, p.client.backoff.pause(failures, failure.RetryAfter)) != nil {
			return
		}
		failures++
	}
}

// hasWork waits for an event to publish. It returns false if the publisher was closed.
func (p *Publisher) hasWork() bool {
	for {
		p.mu.Lock()
		found := len(p.waiting) > 0
		p.mu.Unlock()
		if found {
			return p.ended.Err() == nil
		}
		select {
		case <-p.work:
		case <-p.ended.Done():
			return false
		}
	}
}

// stream runs one stream until it breaks.
func (p *Publisher) stream() (answered int, token string, err error) {
	ctx, token, err := p.client.authorized(p.ended)
	if err != nil {
		return 0, token, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := p.client.events.PublishStream(ctx)
	if err != nil {
		cancel()
		return 0, token, err
	}
	written := make(chan struct{})
	go p.write(ctx, stream, written)
	defer func() {
		cancel()
		<-written
	}()
	for {
		message, err := stream.Recv()
		if err != nil {
			return answered, token, err
		}
		answered++
		if !p.answer(message.GetResponse()) {
			return answered, token, &Error{Code: "internal", Message: "the server answered an event that was not sent"}
		}
	}
}

func (p *Publisher) write(
	ctx context.Context, stream grpc.BidiStreamingClient[pb.PublishStreamRequest, pb.PublishStreamResponse],
	written chan<- struct{},
) {
	defer close(written)
	for {
		p.mu.Lock()
		var item *Pending
		if len(p.waiting) > 0 {
			item, p.waiting = p.waiting[0], p.waiting[1:]
			p.sent = append(p.sent, item)
		}
		p.mu.Unlock()
		if item == nil {
			select {
			case <-p.work:
				continue
			case <-ctx.Done():
				return
			}
		}
		// Whatever it fails with, reading fails with as well.
		if stream.Send(&pb.PublishStreamRequest{Request: item.request}) != nil {
			return
		}
	}
}

// answer settles the oldest sent event. It returns false if there is none.
func (p *Publisher) answer(response *pb.PublishResponse) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sent) == 0 {
		return false
	}
	item := p.sent[0]
	p.sent = p.sent[1:]
	if response.GetError() == nil {
		p.finish(item, Outcome{Published: publishedOf(response)})
		return true
	}
	failure := failureOfStatus(response.GetError())
	pause := p.client.backoff.pause(item.failures, failure.RetryAfter)
	if !failure.passing() || time.Now().Add(pause).After(item.expires) {
		p.finish(item, Outcome{Err: failure})
		return true
	}
	item.failures++
	p.paused[item] = time.AfterFunc(pause, func() { p.resume(item) })
	return true
}

func (p *Publisher) resume(item *Pending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, paused := p.paused[item]; paused {
		delete(p.paused, item)
		p.waiting = append(p.waiting, item)
		p.wake()
	}
}

// sendAgain is for a stream that broke: the outcomes of what was sent are unknown.
func (p *Publisher) sendAgain(failure *Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var again []*Pending
	for _, item := range p.sent {
		if repeatable(item.request) && !isSettled(item) {
			again = append(again, item)
		} else {
			p.finish(item, Outcome{Err: failure})
		}
	}
	p.sent = nil
	p.waiting = append(again, p.waiting...)
}

func (p *Publisher) failAll(failure *Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, item := range p.waiting {
		p.finish(item, Outcome{Err: failure})
	}
	p.waiting = nil
	p.idle.Broadcast()
}

// expire gives up events that have no answer in time.
func (p *Publisher) expire() {
	tick := time.NewTicker(max(p.client.timeout/20, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-p.ended.Done():
			return
		case now := <-tick.C:
			p.expireBefore(now)
		}
	}
}

func (p *Publisher) expireBefore(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	late := Outcome{Err: &Error{Code: "deadline_exceeded", Message: fmt.Sprintf("no answer within %v", p.client.timeout)}}
	var kept []*Pending
	for _, item := range p.waiting {
		if now.After(item.expires) {
			p.finish(item, late)
		} else {
			kept = append(kept, item)
		}
	}
	p.waiting = kept
	for _, item := range p.sent {
		if now.After(item.expires) {
			// Its answer is still expected. Otherwise, the next ones would be matched to it.
			p.resolve(item, late)
		}
	}
	p.idle.Broadcast()
}

// finish gives an event its outcome, and its slot to another. It needs the lock.
func (p *Publisher) finish(item *Pending, outcome Outcome) {
	p.resolve(item, outcome)
	<-p.slots
	p.idle.Broadcast()
}

func (p *Publisher) resolve(item *Pending, outcome Outcome) {
	item.settle.Do(func() {
		if outcome.Err != nil && p.failure == nil {
			p.failure = outcome.Err
		}
		item.outcome = outcome
		close(item.done)
	})
}

func isSettled(item *Pending) bool {
	select {
	case <-item.done:
		return true
	default:
		return false
	}
}

// wake tells the writer of new work. One wake-up is enough for any number of events.
func (p *Publisher) wake() {
	select {
	case p.work <- struct{}{}:
	default:
	}
}

// stopped ends everything that waits.
func (p *Publisher) stopped() {
	p.end()
	p.mu.Lock()
	defer p.mu.Unlock()
	left := append(p.sent, p.waiting...)
	for item, timer := range p.paused {
		timer.Stop()
		left = append(left, item)
	}
	p.sent, p.waiting = nil, nil
	clear(p.paused)
	for _, item := range left {
		p.finish(item, Outcome{Err: ErrClosed})
	}
	p.idle.Broadcast()
	close(p.done)
}
