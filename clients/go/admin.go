package tidings

import (
	"context"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tidings/tidings/clients/go/tidingsv1"
)

// The most items of one page.
const pageSize = 1000

// Admin makes the calls of ConnectionService, for role `admin`, and of CatalogService. Answers are the messages of the
// schema.
type Admin struct{ client *Client }

// Admin returns the calls for operators.
func (c *Client) Admin() Admin { return Admin{c} }

// Presence is who is in a channel: the number of connections of each user, at most 1,000 users. Total counts all users.
type Presence struct {
	Users map[string]uint32
	Total uint64
}

// Presence returns who is in a channel. It needs role `service` or `admin`.
func (c *Client) Presence(ctx context.Context, channel string) (*Presence, error) {
	answer, err := call(ctx, c, true, &pb.GetPresenceRequest{Channel: channel}, c.connections.GetPresence)
	if err != nil {
		return nil, err
	}
	presence := &Presence{Users: map[string]uint32{}, Total: answer.GetTotal()}
	for _, user := range answer.GetUsers() {
		presence.Users[user.GetUser()] = user.GetConnections()
	}
	return presence, nil
}

// ClusterStats returns the counters of all nodes together, those of each, and the nodes that did not answer in time. With a
// name or a number, only those of this node.
func (a Admin) ClusterStats(ctx context.Context, node string) (*pb.GetStatsResponse, error) {
	return call(ctx, a.client, true, &pb.GetStatsRequest{Node: node}, a.client.connections.GetStats)
}

// Stats returns the current counters of all nodes together.
func (a Admin) Stats(ctx context.Context) (*pb.Stats, error) {
	answer, err := call(ctx, a.client, true, &pb.GetStatsRequest{}, a.client.connections.GetStats)
	return answer.GetStats(), err
}

// WatchStats iterates over the counters, with one reading each interval. It ends with the first error.
func (a Admin) WatchStats(ctx context.Context, interval time.Duration) iter.Seq2[*pb.Stats, error] {
	return func(yield func(*pb.Stats, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		authorized, err := a.client.Context(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		stream, err := a.client.connections.WatchStats(authorized, &pb.WatchStatsRequest{Interval: durationpb.New(interval)})
		for err == nil {
			var reading *pb.WatchStatsResponse
			if reading, err = stream.Recv(); err == nil && !yield(reading.GetStats(), nil) {
				return
			}
		}
		yield(nil, failureOf(err))
	}
}

// ConnectionFilter selects connections. All conditions must hold.
type ConnectionFilter struct {
	User, Role, Channel, Transport, ClientType string
	// Node is the name or the number of a node.
	Node string
	// OnUnreachable is called for each page that lacks nodes, with their names: they did not answer in time.
	OnUnreachable func(nodes []string)
}

// Connections iterates over the open connections, page by page. It ends with the first error.
func (a Admin) Connections(ctx context.Context, filter ConnectionFilter) iter.Seq2[*pb.Connection, error] {
	request := &pb.ListConnectionsRequest{
		User: filter.User, Role: filter.Role, Channel: filter.Channel, Transport: filter.Transport,
		ClientType: filter.ClientType, Node: filter.Node, PageSize: pageSize,
	}
	return pages(func(token string) ([]*pb.Connection, string, error) {
		request.PageToken = token
		answer, err := call(ctx, a.client, true, request, a.client.connections.ListConnections)
		if nodes := answer.GetUnreachable(); len(nodes) > 0 && filter.OnUnreachable != nil {
			filter.OnUnreachable(nodes)
		}
		return answer.GetConnections(), answer.GetNextPageToken(), err
	})
}

// Connection returns one connection. The error is `not_found` if it is closed.
func (a Admin) Connection(ctx context.Context, id string) (*pb.Connection, error) {
	request := &pb.GetConnectionRequest{ConnectionId: id}
	answer, err := call(ctx, a.client, true, request, a.client.connections.GetConnection)
	return answer.GetConnection(), err
}

// DisconnectOptions give the reason, which the client sees, and may end the tokens as well.
type DisconnectOptions struct {
	Reason string
	Revoke bool
}

// Disconnect closes one connection. It returns how many were closed.
func (a Admin) Disconnect(ctx context.Context, connectionID string, options DisconnectOptions) (uint64, error) {
	return a.disconnect(ctx, &pb.DisconnectRequest{
		Target: &pb.DisconnectRequest_ConnectionId{ConnectionId: connectionID}, Reason: options.Reason,
		Revoke: options.Revoke,
	})
}

// DisconnectUser closes all connections of a user. It returns how many were closed.
func (a Admin) DisconnectUser(ctx context.Context, user string, options DisconnectOptions) (uint64, error) {
	return a.disconnect(ctx, &pb.DisconnectRequest{
		Target: &pb.DisconnectRequest_User{User: user}, Reason: options.Reason, Revoke: options.Revoke,
	})
}

func (a Admin) disconnect(ctx context.Context, request *pb.DisconnectRequest) (uint64, error) {
	answer, err := call(ctx, a.client, true, request, a.client.connections.Disconnect)
	return answer.GetDisconnected(), err
}

// Channels iterates over the channels with this prefix that have subscribers or history, by name.
func (a Admin) Channels(ctx context.Context, prefix string) iter.Seq2[*pb.Channel, error] {
	return pages(func(token string) ([]*pb.Channel, string, error) {
		request := &pb.ListChannelsRequest{Prefix: prefix, PageSize: pageSize, PageToken: token}
		answer, err := call(ctx, a.client, true, request, a.client.connections.ListChannels)
		return answer.GetChannels(), answer.GetNextPageToken(), err
	})
}

// EventTypes iterates over the event types of the catalog, by name.
func (a Admin) EventTypes(ctx context.Context) iter.Seq2[*pb.EventType, error] {
	return pages(func(token string) ([]*pb.EventType, string, error) {
		request := &pb.ListEventTypesRequest{PageSize: pageSize, PageToken: token}
		answer, err := call(ctx, a.client, true, request, a.client.catalog.ListEventTypes)
		return answer.GetEventTypes(), answer.GetNextPageToken(), err
	})
}

// EventType returns one event type. The error is `not_found` if the catalog lacks it.
func (a Admin) EventType(ctx context.Context, name string) (*pb.EventType, error) {
	request := &pb.GetEventTypeRequest{Name: name}
	answer, err := call(ctx, a.client, true, request, a.client.catalog.GetEventType)
	return answer.GetEventType(), err
}

// Validate checks a payload against the catalog. It returns the violations: none if it would be accepted.
func (a Admin) Validate(ctx context.Context, eventType string, data any) ([]*pb.ValidationError, error) {
	encoded, err := payload(data)
	if err != nil {
		return nil, err
	}
	request := &pb.ValidateEventRequest{Type: eventType, Data: encoded}
	answer, err := call(ctx, a.client, true, request, a.client.catalog.ValidateEvent)
	return answer.GetErrors(), err
}

func pages[Item any](page func(token string) ([]Item, string, error)) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for token := ""; ; {
			items, next, err := page(token)
			if err != nil {
				var none Item
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if token = next; token == "" {
				return
			}
		}
	}
}
