package tidings

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	pb "github.com/tidings/tidings/clients/go/tidingsv1"
)

// Position is a position in a channel: the offset of an event, within an epoch.
type Position struct {
	Epoch  string
	Offset uint64
}

// ParsePosition parses EPOCH/OFFSET, which [Position.String] writes.
func ParsePosition(text string) (Position, error) {
	at := strings.LastIndexByte(text, '/')
	if at < 1 {
		return Position{}, errors.New("tidings: expected EPOCH/OFFSET")
	}
	offset, err := strconv.ParseUint(text[at+1:], 10, 64)
	if err != nil {
		return Position{}, errors.New("tidings: expected EPOCH/OFFSET")
	}
	return Position{text[:at], offset}, nil
}

// String returns EPOCH/OFFSET.
func (p Position) String() string { return fmt.Sprintf("%s/%d", p.Epoch, p.Offset) }

// Step is a step of a subscription: *[Event], *[Gap] or *[Subscribed].
type Step interface{ step() }

// Event is an event as it was published.
type Event struct {
	ID   string
	Type string
	// Channel is empty if the event was sent directly to users, roles or connections.
	Channel     string
	Time        time.Time
	Data        []byte
	ContentType string
	Source      string
	Headers     map[string]string
	// TraceParent and TraceState are W3C Trace Context.
	TraceParent string
	TraceState  string
	// Position is nil if the channel keeps no history.
	Position *Position
}

// Decode decodes the payload, which must be JSON.
func (e *Event) Decode(into any) error { return json.Unmarshal(e.Data, into) }

// Recovery says what happened to the events between two connections.
type Recovery int

const (
	// Began means that there was nothing to resume.
	Began Recovery = iota
	// Recovered means that every event after the position follows, each once.
	Recovered
	// Lost means that events may have been missed and will not come: reload the state.
	Lost
)

// Subscribed is the state of a channel, at the start and after each reconnect.
type Subscribed struct {
	Channel string
	// Position is nil if the channel keeps no history.
	Position *Position
	Recovery Recovery
	// Replayed is the number of events that follow from history.
	Replayed uint64
	// Cursor is the acknowledged offset of a durable subscription.
	Cursor uint64
	// moves says that the channel's position becomes this one when the step is delivered.
	moves bool
}

// Gap says that the events with offsets From to To will not be delivered. Both are 0 without history.
type Gap struct {
	Channel  string
	From, To uint64
	Reason   string
}

func (*Event) step()      {}
func (*Subscribed) step() {}
func (*Gap) step()        {}

// Stale reports whether the state that the events led to must be reloaded.
func Stale(step Step) bool {
	switch step := step.(type) {
	case *Subscribed:
		return step.Recovery == Lost
	case *Gap:
		// Newer events stand for those that were conflated.
		return step.Reason != "conflated"
	}
	return false
}

// Audience narrows an event. A connection matches if any of the first three names it.
type Audience struct {
	Users, Roles, Connections []string
	ExceptConnections         []string
}

// NewEvent is an event to publish.
type NewEvent struct {
	// Channels: none means `global`, or with an audience, directly to it.
	Channels []string
	Type     string
	// Data is sent unchanged if it is []byte or json.RawMessage, and as JSON otherwise.
	Data any
	// ContentType is that of []byte. Empty means JSON.
	ContentType string
	Headers     map[string]string
	// Key is the conflation key.
	Key string
	// IdempotencyKey makes a retry safe. The client makes one if it is empty.
	IdempotencyKey string
	Audience       *Audience
	Source         string
	// Time is when the event happened. The zero time means now.
	Time time.Time
	// TTL is how long the event may be replayed and read from history. As long as the channel keeps it if 0.
	TTL time.Duration
	// SkipHistory delivers the event and keeps it nowhere.
	SkipHistory bool
	// ExpectedOffset publishes only if this is the channel's newest offset, 0 before its first event. Otherwise the error
	// is `failed_precondition`.
	ExpectedOffset *uint64
	// TraceParent and TraceState are W3C Trace Context of this event, in place of the call's.
	TraceParent, TraceState string
}

// PublishedTo is the result of publishing an event to one channel.
type PublishedTo struct {
	Channel     string
	Position    *Position
	Subscribers uint64
	Duplicate   bool
}

// Published is the result of publishing an event: its id, and its position in each channel.
type Published struct {
	ID      string
	Results []PublishedTo
}

// Position is the position in the first channel. Nil if that keeps no history.
func (p *Published) Position() *Position {
	if len(p.Results) == 0 {
		return nil
	}
	return p.Results[0].Position
}

// Outcome is the result of one event of a batch: one of the two is nil.
type Outcome struct {
	Published *Published
	Err       error
}

// HistoryPage is a page of a channel's history. NextPageToken is empty on the last page.
type HistoryPage struct {
	Events []*Event
	// Position is the channel's newest position.
	Position      Position
	NextPageToken string
}

func eventOf(message *pb.Event) *Event {
	contentType := message.GetContentType()
	if contentType == "" {
		contentType = "application/json"
	}
	return &Event{
		ID: message.GetId(), Type: message.GetType(), Channel: message.GetChannel(),
		Time: message.GetTime().AsTime(), Data: message.GetData(), ContentType: contentType,
		Source: message.GetSource(), Headers: message.GetHeaders(),
		TraceParent: message.GetTraceparent(), TraceState: message.GetTracestate(),
		Position: positionOf(message.GetPosition()),
	}
}

func positionOf(message *pb.Position) *Position {
	if message == nil {
		return nil
	}
	return &Position{message.GetEpoch(), message.GetOffset()}
}

func (p *Position) message() *pb.Position {
	if p == nil {
		return nil
	}
	return &pb.Position{Epoch: p.Epoch, Offset: p.Offset}
}

func publishedOf(message *pb.PublishResponse) *Published {
	published := &Published{ID: message.GetId()}
	for _, result := range message.GetResults() {
		published.Results = append(published.Results, PublishedTo{
			Channel: result.GetChannel(), Position: positionOf(result.GetPosition()),
			Subscribers: result.GetSubscribers(), Duplicate: result.GetDuplicate(),
		})
	}
	return published
}
