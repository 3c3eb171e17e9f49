package tidings

import (
	"context"
	"iter"
	"time"

	pb "github.com/tidings/tidings/clients/go/tidingsv1"
)

// Ack acknowledges events of the token's user, in the durable subscription of this name, up to an offset. A cursor never
// moves back.
func (c *Client) Ack(ctx context.Context, channel, durable string, offset uint64) error {
	_, err := call(ctx, c, true, &pb.AckRequest{Channel: channel, Durable: durable, Offset: offset}, c.events.Ack)
	return err
}

// AckOf acknowledges events of another user. It needs role `service` or `admin`.
func (c *Client) AckOf(ctx context.Context, user, channel, durable string, offset uint64) error {
	request := &pb.AckRequest{Channel: channel, Durable: durable, Offset: offset, User: user}
	_, err := call(ctx, c, true, request, c.events.Ack)
	return err
}

// Cursor is how far a user has acknowledged a channel.
type Cursor struct {
	User, Durable, Channel string
	Position               Position
	// UsedAt is when it was last moved, or used.
	UsedAt time.Time
}

// CursorFilter selects cursors. All conditions must hold.
type CursorFilter struct{ Channel, User, Durable string }

// GetCursors iterates over the cursors of durable subscriptions, page by page. It ends with the first error, and needs
// role `service` or `admin`.
func (c *Client) GetCursors(ctx context.Context, filter CursorFilter) iter.Seq2[Cursor, error] {
	return pages(func(token string) ([]Cursor, string, error) {
		answer, err := call(ctx, c, true, &pb.GetCursorsRequest{
			Channel: filter.Channel, User: filter.User, Durable: filter.Durable, PageSize: pageSize, PageToken: token,
		}, c.events.GetCursors)
		var cursors []Cursor
		for _, one := range answer.GetCursors() {
			cursor := Cursor{User: one.GetUser(), Durable: one.GetDurable(), Channel: one.GetChannel(), UsedAt: one.GetUsedAt().AsTime()}
			if position := positionOf(one.GetPosition()); position != nil {
				cursor.Position = *position
			}
			cursors = append(cursors, cursor)
		}
		return cursors, answer.GetNextPageToken(), err
	})
}

// PurgeOptions select the events to purge. All conditions must hold; the zero value means all.
type PurgeOptions struct {
	// UntilOffset: only events up to this offset.
	UntilOffset *uint64
	// User: only events that this user published, or that were addressed to this user alone.
	User string
}

// PurgeHistory removes events from a channel's history. It returns how many, and needs role `service` or `admin`.
func (c *Client) PurgeHistory(ctx context.Context, channel string, options PurgeOptions) (uint64, error) {
	request := &pb.PurgeHistoryRequest{Channel: channel, UntilOffset: options.UntilOffset, User: options.User}
	answer, err := call(ctx, c, true, request, c.events.PurgeHistory)
	return answer.GetPurged(), err
}

// Receiver is the connections that a user has now, or one connection: give one of the two.
type Receiver struct{ User, ConnectionID string }

// SubscribeUserOptions narrow the subscriptions. The zero value means all events.
type SubscribeUserOptions struct {
	// EventTypes are exact or end in `*`.
	EventTypes []string
	// Filter is a CEL expression over the event.
	Filter string
}

// SubscribeUser subscribes connections to channels. It returns how many connections were subscribed, and needs role
// `service` or `admin`.
func (c *Client) SubscribeUser(
	ctx context.Context, receiver Receiver, channels []string, options SubscribeUserOptions,
) (uint64, error) {
	answer, err := call(ctx, c, true, &pb.SubscribeUserRequest{
		User: receiver.User, ConnectionId: receiver.ConnectionID, Channels: channels, EventTypes: options.EventTypes,
		Filter: options.Filter,
	}, c.events.SubscribeUser)
	return answer.GetConnections(), err
}

// UnsubscribeUser ends subscriptions of connections. It returns how many connections there are.
func (c *Client) UnsubscribeUser(ctx context.Context, receiver Receiver, channels []string) (uint64, error) {
	answer, err := call(ctx, c, true, &pb.UnsubscribeUserRequest{
		User: receiver.User, ConnectionId: receiver.ConnectionID, Channels: channels,
	}, c.events.UnsubscribeUser)
	return answer.GetConnections(), err
}
