package tidings_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	tidings "github.com/tidings/tidings/clients/go"
)

func TestEventArrivesAsPublished(t *testing.T) {
	client := start(t, memory).client(tidings.Options{})
	ctx, when := inTime(t), time.Date(2026, 11, 21, 10, 6, 53, 731e6, time.UTC)
	published, err := client.Publish(ctx, tidings.NewEvent{
		Channels: []string{"project:1", "project:2"}, Type: "project.updated", Data: map[string]string{"name": "é"},
		Headers: map[string]string{"region": "eu"}, Source: "tests", Time: when,
	})
	check(t, err)
	events := collect(t, client, "project:2")
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	event := events[0]
	if event.ID != published.ID || string(event.Data) != `{"name":"é"}` || !event.Time.Equal(when) ||
		event.Headers["region"] != "eu" || event.Source != "tests" || *event.Position != *published.Results[1].Position {
		t.Fatalf("%+v", event)
	}
	_, err = client.Publish(ctx, tidings.NewEvent{Channels: []string{"project:1"}, Type: "not a type"})
	var refused *tidings.Error
	if !errors.As(err, &refused) || refused.Code != "invalid_argument" || refused.Field != "type" {
		t.Fatal(err)
	}
	_, err = client.Publish(ctx, tidings.NewEvent{Type: "n", Audience: &tidings.Audience{Users: []string{"u"}}})
	check(t, err)
}

func TestLostResponseDoesNotPublishTwice(t *testing.T) {
	s := start(t, memory)
	l := proxy(t, s)
	client, other, ctx := s.clientAt(l.address(), tidings.Options{}), s.client(tidings.Options{}), inTime(t)
	publish(t, client, 0, 1)
	l.hold(true)
	answer := make(chan error, 1)
	go func() {
		published, err := client.Publish(ctx, event(1))
		if err == nil && !published.Results[0].Duplicate {
			err = errors.New("not a duplicate")
		}
		answer <- err
	}()
	until(t, "the server has the event", func() bool { return len(collect(t, other, "project:1")) == 2 })
	l.cut()
	l.hold(false)
	check(t, <-answer)
	same(t, numbers(t, other), 2)
}

func TestBatchHasIndividualResults(t *testing.T) {
	client := start(t, memory).client(tidings.Options{})
	var events []tidings.NewEvent
	for n := range 2500 {
		events = append(events, event(n))
	}
	events[1200].Type = "not a type"
	outcomes, err := client.PublishBatch(inTime(t), events)
	check(t, err)
	for n, outcome := range outcomes {
		if n == 1200 != (tidings.Code(outcome.Err) == "invalid_argument") || n != 1200 && outcome.Published == nil {
			t.Fatal(n, outcome)
		}
	}
}

func TestBrokenStreamPublishesOnceInOrder(t *testing.T) {
	s := start(t, memory)
	l := proxy(t, s)
	client, ctx := s.clientAt(l.address(), tidings.Options{}), inTime(t)
	publisher, err := client.Publisher(32)
	check(t, err)
	var pending []*tidings.Pending
	for n := range 1500 {
		one, err := publisher.Publish(ctx, event(n))
		check(t, err)
		pending = append(pending, one)
		if n%400 == 399 {
			l.cut()
		}
	}
	check(t, publisher.Flush(ctx))
	for n, one := range pending {
		published, err := one.Wait(ctx)
		check(t, err)
		if published.Position().Offset != uint64(n+1) {
			t.Fatal(n, published)
		}
	}
	same(t, numbers(t, client), 1500)
	wrong, err := publisher.Publish(ctx, tidings.NewEvent{Channels: []string{"project:1"}, Type: "not a type"})
	check(t, err)
	if err := publisher.Flush(ctx); tidings.Code(err) != "invalid_argument" {
		t.Fatal(err)
	}
	if _, err := wrong.Wait(ctx); err == nil {
		t.Fatal("not refused")
	}
	publisher.Close()
	if _, err := publisher.Publish(ctx, event(1)); !errors.Is(err, tidings.ErrClosed) {
		t.Fatal(err)
	}
}

func TestUnacknowledgedEventsTimeOut(t *testing.T) {
	s := start(t, memory)
	l := proxy(t, s)
	l.hold(true)
	client := s.clientAt(l.address(), tidings.Options{Timeout: 200 * time.Millisecond})
	publisher, err := client.Publisher(4)
	check(t, err)
	one, err := publisher.Publish(inTime(t), event(1))
	check(t, err)
	if _, err := one.Wait(inTime(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	publisher.Close()
	if _, err := client.Publish(inTime(t), event(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestRateLimitAdviceIsFollowed(t *testing.T) {
	s := start(t, memory+"[limits]\npublishes_per_second = 100\npublishes_burst = 5\n")
	client, ctx := s.client(tidings.Options{Token: token(time.Hour, "service")}), inTime(t)
	var events []tidings.NewEvent
	for n := range 20 {
		events = append(events, event(n))
	}
	outcomes, err := client.PublishBatch(ctx, events)
	check(t, err)
	for _, outcome := range outcomes {
		check(t, outcome.Err)
	}
	publisher, err := client.Publisher(256)
	check(t, err)
	defer publisher.Close()
	for n := 20; n < 40; n++ {
		_, err := publisher.Publish(ctx, event(n))
		check(t, err)
	}
	check(t, publisher.Flush(ctx))
	seen := numbers(t, client)
	slices.Sort(seen)
	same(t, seen, 40)
}

func TestHistoryIsPaged(t *testing.T) {
	client := start(t, memory).client(tidings.Options{})
	publish(t, client, 0, 25)
	page, err := client.HistoryPage(inTime(t), "project:1", tidings.HistoryQuery{PageSize: 10})
	check(t, err)
	if len(page.Events) != 10 || page.Position.Offset != 25 {
		t.Fatalf("%+v", page)
	}
	var rest []int
	query := tidings.HistoryQuery{PageSize: 4, Since: page.Events[9].Position}
	for event, err := range client.History(inTime(t), "project:1", query) {
		check(t, err)
		rest = append(rest, number(t, event))
	}
	if len(rest) != 15 || rest[0] != 10 {
		t.Fatal(rest)
	}
}

func TestOperatorsSeeAndDisconnect(t *testing.T) {
	client, ctx := start(t, memory).client(tidings.Options{}), inTime(t)
	subscription := subscribe(t, client, tidings.SubscribeOptions{}, "project:1")
	admin := client.Admin()
	var ids []string
	for connection, err := range admin.Connections(ctx, tidings.ConnectionFilter{Channel: "project:1"}) {
		check(t, err)
		ids = append(ids, connection.GetId())
	}
	if len(ids) != 1 || ids[0] != subscription.ConnectionID() {
		t.Fatal(ids)
	}
	one, err := admin.Connection(ctx, ids[0])
	check(t, err)
	if one.GetTransport() != "grpc" {
		t.Fatal(one)
	}
	for stats, err := range admin.WatchStats(ctx, 100*time.Millisecond) {
		check(t, err)
		if stats.GetConnections().GetNow() != 1 {
			t.Fatal(stats)
		}
		break
	}
	presence, err := client.Presence(ctx, "project:1")
	check(t, err)
	if presence.Total != uint64(len(presence.Users)) {
		t.Fatal(presence)
	}
	closed, err := admin.Disconnect(ctx, ids[0], tidings.DisconnectOptions{Reason: "tests"})
	check(t, err)
	if closed != 1 {
		t.Fatal(closed)
	}
	if _, err := admin.EventType(ctx, "unknown"); tidings.Code(err) != "not_found" {
		t.Fatal(err)
	}
}

func TestRefusedTokenIsReplacedOnce(t *testing.T) {
	s := start(t, memory)
	answers := []string{"nonsense", token(time.Hour, "service")}
	client := s.client(tidings.Options{TokenSource: func(context.Context) (string, error) {
		answer := answers[0]
		answers = answers[1:]
		return answer, nil
	}})
	publish(t, client, 0, 1)
	wrong := s.client(tidings.Options{Token: "nonsense"})
	if _, err := wrong.Publish(inTime(t), event(1)); tidings.Code(err) != "unauthenticated" {
		t.Fatal(err)
	}
	failing := s.client(tidings.Options{Timeout: 300 * time.Millisecond, TokenSource: func(context.Context) (string, error) {
		return "", errors.New("secret-token")
	}})
	if _, err := failing.Publish(inTime(t), event(1)); err == nil || tidings.Code(err) == "" ||
		slices.Contains([]string{"secret-token"}, err.Error()) {
		t.Fatal(err)
	}
}

func event(n int) tidings.NewEvent {
	return tidings.NewEvent{Channels: []string{"project:1"}, Type: "n", Data: n}
}

func publish(t *testing.T, client *tidings.Client, from, to int) {
	t.Helper()
	var events []tidings.NewEvent
	for n := from; n < to; n++ {
		events = append(events, event(n))
	}
	outcomes, err := client.PublishBatch(inTime(t), events)
	check(t, err)
	for _, outcome := range outcomes {
		check(t, outcome.Err)
	}
}

func collect(t *testing.T, client *tidings.Client, channel string) []*tidings.Event {
	t.Helper()
	var events []*tidings.Event
	for event, err := range client.History(inTime(t), channel, tidings.HistoryQuery{PageSize: 1000}) {
		check(t, err)
		events = append(events, event)
	}
	return events
}

func numbers(t *testing.T, client *tidings.Client) []int {
	t.Helper()
	var seen []int
	for _, event := range collect(t, client, "project:1") {
		seen = append(seen, number(t, event))
	}
	return seen
}

func number(t *testing.T, event *tidings.Event) int {
	t.Helper()
	var n int
	check(t, json.Unmarshal(event.Data, &n))
	return n
}

func same(t *testing.T, seen []int, count int) {
	t.Helper()
	if len(seen) != count {
		t.Fatalf("%d instead of %d: %v", len(seen), count, seen)
	}
	for n, value := range seen {
		if n != value {
			t.Fatalf("%d at %d", value, n)
		}
	}
}
