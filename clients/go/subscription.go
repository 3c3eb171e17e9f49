package tidings

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tidings/tidings/clients/go/tidingsv1"
)

// A stream that was open for this long resets the backoff.
const good = 10 * time.Second

// SubscribeOptions narrow a subscription, and say where it begins. The zero value means live events only.
type SubscribeOptions struct {
	// Since resumes each channel after a position. A pattern uses those of its channels.
	Since map[string]Position
	// Rewind replays the newest events of each other named channel.
	Rewind uint32
	// EventTypes are exact or end in `*`.
	EventTypes []string
	// Filter is a CEL expression over the event.
	Filter string
	// Durable names a durable subscription: channels without Since resume behind what the token's user has acknowledged, on
	// any device. Events that were not acknowledged before a reconnect are delivered again.
	Durable string
	// AutoAck acknowledges an event of a durable subscription when the next step is asked for.
	AutoAck bool
	// OnAckFailure is called when an acknowledgement of AutoAck could not be stored. It is repeated with the next event.
	OnAckFailure func(channel string, err error)
	// MinInterval is the least time between two events of a key, of which only the newest is sent.
	MinInterval time.Duration
	// Remember is how many channels received through a pattern can be resumed. 100 if 0, none if negative. Including the
	// named ones, they should stay within the server's `limits.subscriptions_per_connection`.
	Remember int
}

// Subscription follows channels. Call [Subscription.Next] from one goroutine at a time.
//
// It connects on the first step, and reconnects whenever the connection breaks. Each channel resumes after the last
// delivered event. There is no queue in the client: unread events wait at the server, within its limits.
type Subscription struct {
	client     *Client
	positions  *positions
	eventTypes []string
	filter     string
	options    SubscribeOptions
	acks       *acks
	// given was delivered, and is acknowledged when the next step is asked for.
	given *Event
	ended context.Context
	end   context.CancelFunc

	ready      []Step
	stream     *stream
	failures   int
	stoodSince time.Time
	everStood  bool
	renewed    bool

	// mu guards connectionID and positions, which other goroutines may read.
	mu           sync.Mutex
	connectionID string
}

// stream is one gRPC stream, and the goroutine that reads it one message ahead: so waiting for a step can be given up
// without losing one.
type stream struct {
	token    string
	cancel   context.CancelFunc
	messages chan received
}

type received struct {
	message *pb.SubscribeResponse
	err     error
}

// Subscribe subscribes to channels: names, `namespace:*` or `*`. Close it after use.
func (c *Client) Subscribe(channels []string, options SubscribeOptions) (*Subscription, error) {
	if len(channels) == 0 {
		return nil, errors.New("tidings: expected one channel or more")
	}
	remember := options.Remember
	if remember == 0 {
		remember = 100
	}
	if options.AutoAck && options.Durable == "" {
		return nil, errors.New("tidings: AutoAck: expected Durable")
	}
	rewind := options.Rewind
	if options.Durable != "" {
		rewind = 0
	}
	positions, err := newPositions(channels, options.Since, rewind, max(remember, 0))
	if err != nil {
		return nil, err
	}
	ended, end := context.WithCancel(c.closed)
	s := &Subscription{
		client: c, positions: positions, eventTypes: options.EventTypes, filter: options.Filter, options: options, ended: ended,
		end: end,
	}
	if options.Durable != "" {
		s.acks = newAcks(c.closed, func(ctx context.Context, channel string, offset uint64) error {
			return c.Ack(ctx, channel, options.Durable, offset)
		}, options.OnAckFailure)
		positions.acks = s.acks
	}
	return s, nil
}

// Close ends the subscription, and a Next that waits. It may be called from any goroutine.
func (s *Subscription) Close() { s.end() }

// Ack acknowledges all events of a channel up to this offset. An earlier offset has no effect. Only for a durable
// subscription. It returns once the server has stored it.
func (s *Subscription) Ack(ctx context.Context, channel string, offset uint64) error {
	if s.acks == nil {
		return &Error{Code: "failed_precondition", Message: "not a durable subscription", Channel: channel}
	}
	return s.acks.ack(ctx, channel, offset)
}

// Flush waits until the acknowledgements of AutoAck are stored, or the context ends.
func (s *Subscription) Flush(ctx context.Context) {
	s.acknowledge()
	if s.acks != nil {
		s.acks.flush(ctx)
	}
}

// acknowledge is for the event that was delivered last: it is handled.
func (s *Subscription) acknowledge() {
	if event := s.given; event != nil && event.Position != nil {
		s.acks.handled(event.Channel, *event.Position)
	}
	s.given = nil
}

// Positions returns for each channel the position after the last delivered event: the Since for resuming later.
func (s *Subscription) Positions() map[string]Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.positions.all()
}

// ConnectionID is the server's id of the latest connection. Empty before the first.
func (s *Subscription) ConnectionID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connectionID
}

// Steps iterates over the steps until the context or the subscription ends. It ends with the first error.
func (s *Subscription) Steps(ctx context.Context) iter.Seq2[Step, error] {
	return func(yield func(Step, error) bool) {
		for {
			step, err := s.Next(ctx)
			if errors.Is(err, ErrClosed) {
				return
			}
			if !yield(step, err) || err != nil {
				return
			}
		}
	}
}

// Events iterates over the events only. `onStale` is called when events were missed and will not come.
func (s *Subscription) Events(ctx context.Context, onStale func(Step)) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		for step, err := range s.Steps(ctx) {
			event, is := step.(*Event)
			switch {
			case err != nil:
				yield(nil, err)
				return
			case is:
				if !yield(event, nil) {
					return
				}
			case onStale != nil && Stale(step):
				onStale(step)
			}
		}
	}
}

// Next waits for the next step. It loses none if the context ends before.
//
// The error is that of the context, [ErrClosed], or an [Error] with which the subscription has ended: the server refused
// a channel or took the permission back. Temporary failures are retried for as long as it takes.
func (s *Subscription) Next(ctx context.Context) (Step, error) {
	s.acknowledge()
	for len(s.ready) == 0 {
		if s.ended.Err() != nil {
			s.drop()
			return nil, ErrClosed
		}
		message, err := s.read(ctx)
		if err == nil {
			err = s.accept(message)
			if err == nil {
				continue
			}
		}
		if err == ctx.Err() {
			return nil, err
		}
		if err := s.after(ctx, err); err != nil {
			return nil, err
		}
	}
	step := s.ready[0]
	s.ready = s.ready[1:]
	if event, is := step.(*Event); is && s.options.AutoAck {
		s.given = event
	}
	s.mu.Lock()
	s.positions.delivered(step)
	s.mu.Unlock()
	return step, nil
}

// read returns the next message. It opens a stream if there is none.
func (s *Subscription) read(ctx context.Context) (*pb.SubscribeResponse, error) {
	if s.stream == nil {
		if err := s.open(ctx); err != nil {
			return nil, err
		}
	}
	var late <-chan time.Time
	if s.stoodSince.IsZero() {
		timer := time.NewTimer(s.client.timeout)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case got := <-s.stream.messages:
		return got.message, got.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.ended.Done():
		return nil, ErrClosed
	case <-late:
		return nil, &Error{Code: "unavailable", Message: "the server did not answer in time"}
	}
}

func (s *Subscription) open(ctx context.Context) error {
	// The token is waited for as long as the caller waits, but the stream outlives this call.
	if _, err := s.client.tokens.get(ctx); err != nil {
		return err
	}
	authorized, token, err := s.client.authorized(s.ended)
	if err != nil {
		return err
	}
	live, cancel := context.WithCancel(authorized)
	s.mu.Lock()
	wanted := s.positions.subscriptions()
	s.mu.Unlock()
	request := &pb.SubscribeRequest{
		Subscriptions: wanted, EventTypes: s.eventTypes, Filter: s.filter, Durable: s.options.Durable,
	}
	if s.options.MinInterval > 0 {
		request.MinInterval = durationpb.New(s.options.MinInterval)
	}
	messages, err := s.client.events.Subscribe(live, request)
	if err != nil {
		cancel()
		s.stream = &stream{token: token, cancel: cancel}
		return err
	}
	s.stream = &stream{token: token, cancel: cancel, messages: make(chan received)}
	go func(into chan<- received) {
		for {
			message, err := messages.Recv()
			select {
			case into <- received{message, err}:
			case <-live.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}(s.stream.messages)
	return nil
}

func (s *Subscription) accept(response *pb.SubscribeResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case response.GetEvent() != nil:
		s.ready = append(s.ready, s.positions.event(eventOf(response.GetEvent()))...)
	case response.GetGap() != nil:
		gap := response.GetGap()
		step := &Gap{gap.GetChannel(), gap.GetFrom(), gap.GetTo(), gap.GetReason()}
		s.ready = append(s.ready, s.positions.gap(step)...)
	case response.GetSubscribed() != nil:
		steps, err := s.positions.subscribed(response.GetSubscribed())
		if err != nil {
			return err
		}
		s.ready = append(s.ready, steps...)
		if s.stoodSince.IsZero() {
			s.stoodSince, s.everStood, s.renewed = time.Now(), true, false
			s.connectionID = response.GetSubscribed().GetConnectionId()
		}
	}
	// Anything else is a message of a newer server, which this client does not know.
	return nil
}

// after is for a stream that ended: it waits for the backoff, or returns the error that ends the subscription.
func (s *Subscription) after(ctx context.Context, err error) error {
	token := ""
	if s.stream != nil {
		token = s.stream.token
	}
	s.drop()
	if s.acks != nil {
		// They come again.
		s.ready = nil
	}
	stood := !s.stoodSince.IsZero()
	if stood && time.Since(s.stoodSince) >= good {
		s.failures = 0
	}
	s.stoodSince = time.Time{}
	if s.ended.Err() != nil || errors.Is(err, ErrClosed) {
		return ErrClosed
	}
	failure := failureOf(err)
	if failure.Code == "unauthenticated" && !s.renewed && s.client.tokens.refused(token) {
		s.renewed = true
		return nil
	}
	if failure.Code == "resource_exhausted" && !failure.HasRetryAfter && !stood {
		s.mu.Lock()
		lost := s.positions.forgetTracked()
		s.mu.Unlock()
		if len(lost) > 0 {
			s.ready = append(s.ready, lost...)
			return nil
		}
		if !s.everStood {
			s.end()
			return failure
		}
	}
	if failure.final() {
		s.end()
		return failure
	}
	pause := s.client.backoff.pause(s.failures, failure.RetryAfter)
	s.failures++
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ended, cancel)()
	if sleep(both, pause) != nil {
		if s.ended.Err() != nil {
			return ErrClosed
		}
		return ctx.Err()
	}
	return nil
}

func (s *Subscription) drop() {
	if s.stream != nil {
		s.stream.cancel()
		s.stream = nil
	}
}

// Channels returns the channels that were asked for.
func (s *Subscription) Channels() []string { return slices.Clone(s.positions.requested) }
