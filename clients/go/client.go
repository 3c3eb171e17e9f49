package tidings

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tidings/tidings/clients/go/tidingsv1"
)

const (
	// A batch or a page may have up to 16 MiB.
	largestMessage = 32 << 20
	// The server's limits on one batch, with a margin for the bytes.
	batchEvents = 1000
	batchBytes  = 8 << 20
)

// Options configure a client. The zero value is useful.
type Options struct {
	// Token is a JWT. TokenSource is asked for one instead: before the first call, before the token expires, and when the
	// server refuses it.
	Token       string
	TokenSource TokenSource
	// TLS turns on TLS. An address with `https://` does too, with the system's authorities.
	TLS *tls.Config
	// Timeout is for each call with all its retries, if the context has no earlier deadline. 30 s if 0.
	Timeout time.Duration
	// Backoff is 0.5 s to 15 s if zero.
	Backoff Backoff
	// KeepAlive is after how much silence a ping checks the connection. 20 s if 0.
	KeepAlive time.Duration
	// DialOptions are added, for instance the handler of otelgrpc.
	DialOptions []grpc.DialOption
}

// Client is a client of one server. Its methods may be called from several goroutines.
type Client struct {
	conn        *grpc.ClientConn
	events      pb.EventServiceClient
	connections pb.ConnectionServiceClient
	catalog     pb.CatalogServiceClient
	tokens      *tokens
	backoff     Backoff
	timeout     time.Duration
	closed      context.Context
	close       context.CancelFunc
}

// New returns a client of the server at HOST:PORT. It connects with the first call.
func New(address string, options Options) (*Client, error) {
	if options.Timeout == 0 {
		options.Timeout = 30 * time.Second
	}
	if options.KeepAlive == 0 {
		options.KeepAlive = 20 * time.Second
	}
	if options.Backoff == (Backoff{}) {
		options.Backoff = Backoff{500 * time.Millisecond, 15 * time.Second}
	}
	if options.Backoff.First <= 0 || options.Backoff.Longest < options.Backoff.First {
		return nil, errors.New("tidings: expected 0 < Backoff.First <= Backoff.Longest")
	}
	if options.Token != "" && options.TokenSource != nil {
		return nil, errors.New("tidings: expected either Token or TokenSource")
	}
	secure := options.TLS
	if rest, found := strings.CutPrefix(address, "https://"); found {
		address = strings.TrimSuffix(rest, "/")
		if secure == nil {
			secure = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	} else if rest, found := strings.CutPrefix(address, "http://"); found {
		address = strings.TrimSuffix(rest, "/")
	}
	transport := insecure.NewCredentials()
	if secure != nil {
		transport = credentials.NewTLS(secure)
	}
	conn, err := grpc.NewClient(address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		// A ping detects a server that has disappeared.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: options.KeepAlive, Timeout: min(options.KeepAlive, 10*time.Second),
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		// Retries are decided here, so gRPC's own are disabled.
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largestMessage)),
		// Unread data stays within HTTP/2's windows, whatever the bandwidth: this turns the estimate off.
		grpc.WithInitialWindowSize(64 << 10), grpc.WithInitialConnWindowSize(256 << 10),
	}, options.DialOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("tidings: %w", err)
	}
	closed, cancel := context.WithCancel(context.Background())
	return &Client{
		conn:        conn,
		events:      pb.NewEventServiceClient(conn),
		connections: pb.NewConnectionServiceClient(conn),
		catalog:     pb.NewCatalogServiceClient(conn),
		tokens:      newTokens(options.Token, options.TokenSource),
		backoff:     options.Backoff,
		timeout:     options.Timeout,
		closed:      closed,
		close:       cancel,
	}, nil
}

// Close cancels all calls and closes the connection.
func (c *Client) Close() error {
	c.close()
	return c.conn.Close()
}

// Conn returns the gRPC connection, for calls with the generated code in tidingsv1 and a context of [Client.Context].
func (c *Client) Conn() *grpc.ClientConn { return c.conn }

// Context returns a context that carries the token.
func (c *Client) Context(ctx context.Context) (context.Context, error) {
	ctx, _, err := c.authorized(ctx)
	return ctx, err
}

// Publish publishes one event. It returns once the event has a position in every channel.
func (c *Client) Publish(ctx context.Context, event NewEvent) (*Published, error) {
	request, err := requestOf(event)
	if err != nil {
		return nil, err
	}
	answer, err := call(ctx, c, repeatable(request), request, c.events.Publish)
	if err != nil {
		return nil, err
	}
	return publishedOf(answer), nil
}

// PublishBatch publishes any number of events in order, and returns an outcome for each.
//
// Events over the rate limit are retried until the timeout. The error is that of a whole call.
func (c *Client) PublishBatch(ctx context.Context, events []NewEvent) ([]Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	requests := make([]*pb.PublishRequest, len(events))
	left := make([]int, len(events))
	for at, event := range events {
		request, err := requestOf(event)
		if err != nil {
			return nil, err
		}
		requests[at], left[at] = request, at
	}
	outcomes := make([]Outcome, len(events))
	for failures := 0; ; failures++ {
		for part := range parts(left, requests) {
			if err := c.batch(ctx, part, requests, outcomes); err != nil {
				return nil, err
			}
		}
		var again []int
		var advised time.Duration
		for _, at := range left {
			var failure *Error
			if errors.As(outcomes[at].Err, &failure) && failure.passing() {
				again = append(again, at)
				advised = max(advised, failure.RetryAfter)
			}
		}
		left = again
		if len(left) == 0 || c.wait(ctx, failures, advised) != nil {
			return outcomes, nil
		}
	}
}

func (c *Client) batch(ctx context.Context, part []int, requests []*pb.PublishRequest, outcomes []Outcome) error {
	asked := &pb.PublishBatchRequest{}
	safe := true
	for _, at := range part {
		asked.Requests = append(asked.Requests, requests[at])
		safe = safe && repeatable(requests[at])
	}
	answer, err := call(ctx, c, safe, asked, c.events.PublishBatch)
	if err != nil {
		return err
	}
	if len(answer.GetResponses()) != len(part) {
		return &Error{Code: "internal", Message: "the server's answer has another number of results"}
	}
	for n, response := range answer.GetResponses() {
		if response.GetError() != nil {
			outcomes[part[n]] = Outcome{Err: failureOfStatus(response.GetError())}
		} else {
			outcomes[part[n]] = Outcome{Published: publishedOf(response)}
		}
	}
	return nil
}

// HistoryQuery selects a part of a channel's history.
type HistoryQuery struct {
	// Since: only events after this position, or before it with Reverse.
	Since *Position
	// PageSize is 1 to 1,000; 100 if 0.
	PageSize  uint32
	PageToken string
	// Reverse means newest first.
	Reverse bool
}

// HistoryPage reads a page of a channel's history.
func (c *Client) HistoryPage(ctx context.Context, channel string, query HistoryQuery) (*HistoryPage, error) {
	answer, err := call(ctx, c, true, &pb.GetHistoryRequest{
		Channel: channel, Since: query.Since.message(), PageSize: query.PageSize, PageToken: query.PageToken,
		Reverse: query.Reverse,
	}, c.events.GetHistory)
	if err != nil {
		return nil, err
	}
	page := &HistoryPage{NextPageToken: answer.GetNextPageToken()}
	if position := positionOf(answer.GetPosition()); position != nil {
		page.Position = *position
	}
	for _, event := range answer.GetEvents() {
		page.Events = append(page.Events, eventOf(event))
	}
	return page, nil
}

// History iterates over a channel's history, page by page. It ends with the first error.
func (c *Client) History(ctx context.Context, channel string, query HistoryQuery) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		for {
			page, err := c.HistoryPage(ctx, channel, query)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, event := range page.Events {
				if !yield(event, nil) {
					return
				}
			}
			if query.PageToken = page.NextPageToken; query.PageToken == "" {
				return
			}
		}
	}
}

// call retries until there is a response, a permanent failure, or the timeout.
//
// A call that is not safe to repeat is only retried if the server has surely not executed it.
func call[Request, Response any](
	ctx context.Context, c *Client, safe bool, request Request,
	method func(context.Context, Request, ...grpc.CallOption) (Response, error),
) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var none Response
	renewed := false
	for failures := 0; ; failures++ {
		authorized, token, err := c.authorized(ctx)
		if err == nil {
			var answer Response
			if answer, err = method(authorized, request); err == nil {
				return answer, nil
			}
		}
		if c.closed.Err() != nil {
			return none, ErrClosed
		}
		failure := failureOf(err)
		if ctx.Err() != nil {
			failure.Code = codeOfContext(ctx)
			return none, failure
		}
		if failure.Code == "unauthenticated" && !renewed && c.tokens.refused(token) {
			renewed = true
			continue
		}
		if !failure.passing() || !safe && !failure.HasRetryAfter {
			return none, failure
		}
		if c.wait(ctx, failures, failure.RetryAfter) != nil {
			return none, failure
		}
	}
}

// wait pauses after a failure. The error says that there is not enough time left.
func (c *Client) wait(ctx context.Context, failures int, advised time.Duration) error {
	pause := c.backoff.pause(failures, advised)
	if deadline, has := ctx.Deadline(); has && time.Until(deadline) <= pause {
		return context.DeadlineExceeded
	}
	return sleep(ctx, pause)
}

func (c *Client) authorized(ctx context.Context) (context.Context, string, error) {
	if c.closed.Err() != nil {
		return nil, "", ErrClosed
	}
	token, err := c.tokens.get(ctx)
	if err != nil || token == "" {
		return ctx, token, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), token, nil
}

func codeOfContext(ctx context.Context) string {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return "deadline_exceeded"
	}
	return "cancelled"
}

// requestOf is the request to publish an event. It has an idempotency key, unless it has no channel.
func requestOf(event NewEvent) (*pb.PublishRequest, error) {
	data, err := payload(event.Data)
	if err != nil {
		return nil, fmt.Errorf("tidings: Data: %w", err)
	}
	request := &pb.PublishRequest{
		Channels: event.Channels, Type: event.Type, Data: data, ContentType: event.ContentType, Headers: event.Headers,
		Key: event.Key, IdempotencyKey: event.IdempotencyKey, Source: event.Source, SkipHistory: event.SkipHistory,
		ExpectedOffset: event.ExpectedOffset, Traceparent: event.TraceParent, Tracestate: event.TraceState,
	}
	if event.TTL != 0 {
		request.Ttl = durationpb.New(event.TTL)
	}
	if !event.Time.IsZero() {
		request.Time = timestamppb.New(event.Time)
	}
	if to := event.Audience; to != nil {
		request.Audience = &pb.Audience{
			Users: to.Users, Roles: to.Roles, Connections: to.Connections, ExceptConnections: to.ExceptConnections,
		}
	}
	if request.IdempotencyKey == "" && repeatable(request) {
		var random [16]byte
		// It never fails.
		_, _ = rand.Read(random[:])
		request.IdempotencyKey = hex.EncodeToString(random[:])
	}
	return request, nil
}

// repeatable reports whether the server recognizes a retry. It remembers keys per channel, so not for direct delivery.
func repeatable(request *pb.PublishRequest) bool {
	return len(request.GetChannels()) > 0 || request.GetAudience() == nil
}

func payload(data any) ([]byte, error) {
	switch data := data.(type) {
	case []byte:
		return data, nil
	case json.RawMessage:
		return data, nil
	}
	return json.Marshal(data)
}

// parts splits requests so that each part fits into one call.
func parts(left []int, requests []*pb.PublishRequest) iter.Seq[[]int] {
	return func(yield func([]int) bool) {
		from, size := 0, 0
		for n, at := range left {
			bytes := proto.Size(requests[at])
			if n > from && (n-from == batchEvents || size+bytes > batchBytes) {
				if !yield(left[from:n]) {
					return
				}
				from, size = n, 0
			}
			size += bytes
		}
		if from < len(left) {
			yield(left[from:])
		}
	}
}
