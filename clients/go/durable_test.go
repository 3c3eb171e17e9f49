package tidings_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	tidings "github.com/tidings/tidings/clients/go"
)

// takeNumbers reads this many events.
func takeNumbers(t *testing.T, subscription *tidings.Subscription, count int) []int {
	t.Helper()
	var seen []int
	for len(seen) < count {
		step, err := subscription.Next(inTime(t))
		check(t, err)
		if event, is := step.(*tidings.Event); is {
			var n int
			check(t, event.Decode(&n))
			seen = append(seen, n)
		}
	}
	return seen
}

func begin(t *testing.T, client *tidings.Client, options tidings.SubscribeOptions) (*tidings.Subscription, *tidings.Subscribed) {
	t.Helper()
	subscription, err := client.Subscribe([]string{"project:1"}, options)
	check(t, err)
	t.Cleanup(subscription.Close)
	step, err := subscription.Next(inTime(t))
	check(t, err)
	return subscription, step.(*tidings.Subscribed)
}

func equal(t *testing.T, got []int, want ...int) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%v, expected %v", got, want)
	}
}

func cursorOf(t *testing.T, client *tidings.Client) uint64 {
	t.Helper()
	for cursor, err := range client.GetCursors(inTime(t), tidings.CursorFilter{Durable: "inbox"}) {
		check(t, err)
		return cursor.Position.Offset
	}
	t.Fatal("no cursor")
	return 0
}

func TestUnacknowledgedEventsComeAgainThroughKill(t *testing.T) {
	s := start(t, disk)
	client := s.client(tidings.Options{})
	following, _ := begin(t, client, tidings.SubscribeOptions{Durable: "inbox"})
	publish(t, client, 1, 5)
	equal(t, takeNumbers(t, following, 4), 1, 2, 3, 4)
	check(t, following.Ack(inTime(t), "project:1", 2))
	// An earlier offset has no effect.
	check(t, following.Ack(inTime(t), "project:1", 1))
	if cursor := cursorOf(t, client); cursor != 2 {
		t.Fatal(cursor)
	}
	publish(t, client, 5, 6)
	equal(t, takeNumbers(t, following, 1), 5)
	s.kill()
	s.start()
	// The same subscription reconnects, another begins: both behind the cursor.
	equal(t, takeNumbers(t, following, 3), 3, 4, 5)
	again, first := begin(t, s.client(tidings.Options{}), tidings.SubscribeOptions{Durable: "inbox"})
	if first.Cursor != 2 || first.Recovery != tidings.Recovered {
		t.Fatalf("%+v", first)
	}
	equal(t, takeNumbers(t, again, 3), 3, 4, 5)
}

func TestAutoAckAcknowledgesWhatWasHandled(t *testing.T) {
	client := start(t, memory).client(tidings.Options{})
	following, _ := begin(t, client, tidings.SubscribeOptions{Durable: "inbox", AutoAck: true})
	publish(t, client, 1, 4)
	equal(t, takeNumbers(t, following, 3), 1, 2, 3)
	until(t, "two events are acknowledged", func() bool { return cursorOf(t, client) == 2 })
	following.Flush(inTime(t))
	if cursor := cursorOf(t, client); cursor != 3 {
		t.Fatal(cursor)
	}
	if _, err := client.Subscribe([]string{"project:1"}, tidings.SubscribeOptions{AutoAck: true}); err == nil {
		t.Fatal("AutoAck without Durable")
	}
}

func TestTTLSkippedHistoryAndExpectedOffsetAreRespected(t *testing.T) {
	client, ctx := start(t, memory).client(tidings.Options{}), inTime(t)
	zero := uint64(0)
	event := func(data any) tidings.NewEvent {
		return tidings.NewEvent{Channels: []string{"project:1"}, Type: "n", Data: data}
	}
	first := event(1)
	first.ExpectedOffset = &zero
	_, err := client.Publish(ctx, first)
	check(t, err)
	second := event(2)
	second.ExpectedOffset = &zero
	var refused *tidings.Error
	if _, err = client.Publish(ctx, second); !errors.As(err, &refused) || refused.Code != "failed_precondition" {
		t.Fatal(err)
	}
	third := event(3)
	third.SkipHistory = true
	published, err := client.Publish(ctx, third)
	check(t, err)
	if published.Position() != nil {
		t.Fatal("a position without history")
	}
	fourth := event(4)
	fourth.TTL = time.Millisecond
	_, err = client.Publish(ctx, fourth)
	check(t, err)
	until(t, "the ttl is over", func() bool { return len(collect(t, client, "project:1")) == 1 })
	purged, err := client.PurgeHistory(ctx, "project:1", tidings.PurgeOptions{})
	check(t, err)
	if purged == 0 || len(collect(t, client, "project:1")) != 0 {
		t.Fatal(purged)
	}
}

func TestServiceSubscribesConnectionsOfUser(t *testing.T) {
	client, ctx := start(t, memory).client(tidings.Options{}), inTime(t)
	following, _ := begin(t, client, tidings.SubscribeOptions{})
	me := tidings.Receiver{User: "tests"}
	count, err := client.SubscribeUser(ctx, me, []string{"project:2"}, tidings.SubscribeUserOptions{EventTypes: []string{"n"}})
	check(t, err)
	if count != 1 {
		t.Fatal(count)
	}
	for n, kind := range []string{"other", "n"} {
		_, err = client.Publish(ctx, tidings.NewEvent{Channels: []string{"project:2"}, Type: kind, Data: n})
		check(t, err)
	}
	equal(t, takeNumbers(t, following, 1), 1)
	count, err = client.UnsubscribeUser(ctx, me, []string{"project:2"})
	check(t, err)
	if count != 1 {
		t.Fatal(count)
	}
	_, err = client.Publish(ctx, tidings.NewEvent{Channels: []string{"project:2"}, Type: "n", Data: 2})
	check(t, err)
	publish(t, client, 3, 4)
	equal(t, takeNumbers(t, following, 1), 3)
}

func TestNodesOfCountersAndConnectionsAreNamed(t *testing.T) {
	client, ctx := start(t, memory).client(tidings.Options{}), inTime(t)
	begin(t, client, tidings.SubscribeOptions{})
	stats, err := client.Admin().ClusterStats(ctx, "")
	check(t, err)
	node := stats.GetStats().GetNode()
	if len(stats.GetNodes()) != 1 || stats.GetNodes()[0].GetNode() != node || len(stats.GetUnreachable()) != 0 {
		t.Fatalf("%+v", stats)
	}
	found := 0
	for connection, err := range client.Admin().Connections(ctx, tidings.ConnectionFilter{Node: node}) {
		check(t, err)
		if connection.GetNode() != node {
			t.Fatal(connection.GetNode())
		}
		found++
	}
	if found != 1 {
		t.Fatal(found)
	}
}
