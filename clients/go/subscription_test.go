package tidings_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tidings "github.com/tidings/tidings/clients/go"
)

func subscribe(
	t *testing.T, client *tidings.Client, options tidings.SubscribeOptions, channels ...string,
) *tidings.Subscription {
	t.Helper()
	subscription, err := client.Subscribe(channels, options)
	check(t, err)
	t.Cleanup(subscription.Close)
	for range channels {
		if _, is := next(t, subscription).(*tidings.Subscribed); !is {
			t.Fatal("expected the state of the channel first")
		}
	}
	return subscription
}

func next(t *testing.T, subscription *tidings.Subscription) tidings.Step {
	t.Helper()
	step, err := subscription.Next(inTime(t))
	check(t, err)
	return step
}

// take returns the numbers of the next events, and the recoveries between them.
func take(t *testing.T, subscription *tidings.Subscription, count int) (seen []int, recoveries []tidings.Recovery) {
	t.Helper()
	for len(seen) < count {
		switch step := next(t, subscription).(type) {
		case *tidings.Event:
			seen = append(seen, number(t, step))
		case *tidings.Subscribed:
			recoveries = append(recoveries, step.Recovery)
		default:
			t.Fatalf("%+v", step)
		}
	}
	return seen, recoveries
}

func TestBrokenConnectionLosesNothing(t *testing.T) {
	s := start(t, memory)
	l := proxy(t, s)
	client, other := s.clientAt(l.address(), tidings.Options{}), s.client(tidings.Options{})
	subscription := subscribe(t, client, tidings.SubscribeOptions{}, "project:1")
	var all []int
	for round := range 3 {
		publish(t, other, round*30, round*30+20)
		seen, _ := take(t, subscription, 10)
		l.cut()
		publish(t, other, round*30+20, round*30+30)
		rest, recoveries := take(t, subscription, 20)
		all = append(append(all, seen...), rest...)
		if len(recoveries) == 0 || recoveries[0] != tidings.Recovered {
			t.Fatal(recoveries)
		}
	}
	same(t, all, 90)
	if subscription.Positions()["project:1"].Offset != 90 {
		t.Fatal(subscription.Positions())
	}
}

func TestDiskHistorySurvivesKill(t *testing.T) {
	s := start(t, disk)
	client := s.client(tidings.Options{})
	subscription := subscribe(t, client, tidings.SubscribeOptions{}, "project:1")
	publish(t, client, 0, 10)
	seen, _ := take(t, subscription, 10)
	publish(t, client, 10, 20)
	s.kill()
	s.start()
	rest, recoveries := take(t, subscription, 10)
	same(t, append(seen, rest...), 20)
	for _, recovery := range recoveries {
		if recovery != tidings.Recovered {
			t.Fatal(recoveries)
		}
	}
}

func TestMemoryHistoryLossIsReported(t *testing.T) {
	s := start(t, memory)
	client := s.client(tidings.Options{})
	subscription := subscribe(t, client, tidings.SubscribeOptions{}, "project:1")
	publish(t, client, 0, 5)
	take(t, subscription, 5)
	s.kill()
	s.start()
	publish(t, client, 5, 6)
	for {
		if state, is := next(t, subscription).(*tidings.Subscribed); is {
			if state.Recovery != tidings.Lost || !tidings.Stale(state) {
				t.Fatalf("%+v", state)
			}
			break
		}
	}
}

func TestPositionsContinueInAnotherProcess(t *testing.T) {
	s := start(t, memory)
	client := s.client(tidings.Options{})
	first := subscribe(t, client, tidings.SubscribeOptions{}, "project:1")
	publish(t, client, 0, 10)
	seen, _ := take(t, first, 4)
	kept, err := tidings.ParsePosition(first.Positions()["project:1"].String())
	check(t, err)
	first.Close()
	second := subscribe(t, client, tidings.SubscribeOptions{Since: map[string]tidings.Position{"project:1": kept}}, "project:1")
	rest, _ := take(t, second, 6)
	same(t, append(seen, rest...), 10)
	rewound := subscribe(t, client, tidings.SubscribeOptions{Rewind: 3}, "project:1")
	last, _ := take(t, rewound, 3)
	if last[0] != 7 {
		t.Fatal(last)
	}
	if _, err := client.Subscribe([]string{"project:2"}, tidings.SubscribeOptions{Since: map[string]tidings.Position{"project:1": kept}}); err == nil {
		t.Fatal("a position of another channel was accepted")
	}
}

func TestChannelsOfPatternAreResumed(t *testing.T) {
	s := start(t, memory)
	l := proxy(t, s)
	client, other := s.clientAt(l.address(), tidings.Options{}), s.client(tidings.Options{})
	subscription := subscribe(t, client, tidings.SubscribeOptions{}, "project:*")
	publish(t, other, 0, 3)
	seen, _ := take(t, subscription, 3)
	l.cut()
	publish(t, other, 3, 6)
	rest, recoveries := take(t, subscription, 3)
	same(t, append(seen, rest...), 6)
	if len(recoveries) < 2 {
		t.Fatal(recoveries)
	}
}

func TestGivingUpAStepLosesNone(t *testing.T) {
	s := start(t, memory)
	client := s.client(tidings.Options{})
	subscription := subscribe(t, client, tidings.SubscribeOptions{}, "project:1")
	var all []int
	for n := range 5 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		if _, err := subscription.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		cancel()
		publish(t, client, n, n+1)
		seen, _ := take(t, subscription, 1)
		all = append(all, seen...)
	}
	same(t, all, 5)
}

func TestRefusalEndsSubscription(t *testing.T) {
	s := start(t, memory)
	client := s.client(tidings.Options{Token: token(time.Hour, "guest")})
	subscription, err := client.Subscribe([]string{"project:1"}, tidings.SubscribeOptions{})
	check(t, err)
	_, err = subscription.Next(inTime(t))
	var refused *tidings.Error
	if !errors.As(err, &refused) || refused.Code != "permission_denied" {
		t.Fatal(err)
	}
	if _, err := subscription.Next(inTime(t)); !errors.Is(err, tidings.ErrClosed) {
		t.Fatal(err)
	}
}

func TestClosingEndsWaiting(t *testing.T) {
	s := start(t, memory)
	client := s.client(tidings.Options{})
	for _, end := range []func(*tidings.Subscription){
		func(subscription *tidings.Subscription) { subscription.Close() },
		func(*tidings.Subscription) { _ = client.Close() },
	} {
		subscription := subscribe(t, client, tidings.SubscribeOptions{}, "project:1")
		ended := make(chan error, 1)
		go func() {
			_, err := subscription.Next(context.Background())
			ended <- err
		}()
		end(subscription)
		select {
		case err := <-ended:
			if !errors.Is(err, tidings.ErrClosed) {
				t.Fatal(err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("still waiting")
		}
	}
}

func TestTokenIsRenewedBeforeExpiryWithoutLoss(t *testing.T) {
	s := start(t, memory)
	var asked atomic.Int32
	client := s.client(tidings.Options{TokenSource: func(context.Context) (string, error) {
		asked.Add(1)
		return token(2*time.Second, "service"), nil
	}})
	other := s.client(tidings.Options{})
	subscription := subscribe(t, client, tidings.SubscribeOptions{}, "project:1")
	var all []int
	resumed := 0
	for n := 0; resumed < 2; n++ {
		publish(t, other, n, n+1)
		seen, recoveries := take(t, subscription, 1)
		all = append(all, seen...)
		for _, recovery := range recoveries {
			if recovery != tidings.Recovered {
				t.Fatal(recoveries)
			}
			resumed++
		}
	}
	same(t, all, len(all))
	if asked.Load() < 3 {
		t.Fatal(asked.Load())
	}
}

func TestSlowReaderSeesGap(t *testing.T) {
	s := start(t, memory+"slow_consumer = \"drop_oldest\"\n[limits]\noutbox_bytes = 262144\n")
	client, other := s.client(tidings.Options{}), s.client(tidings.Options{})
	subscription := subscribe(t, client, tidings.SubscribeOptions{}, "project:1")
	ctx := inTime(t)
	large := strings.Repeat("x", 20000)
	for range 200 {
		_, err := other.Publish(ctx, tidings.NewEvent{Channels: []string{"project:1"}, Type: "n", Data: large})
		check(t, err)
	}
	covered := uint64(0)
	gaps := 0
	for covered < 200 {
		switch step := next(t, subscription).(type) {
		case *tidings.Event:
			if step.Position.Offset != covered+1 {
				t.Fatal(step.Position, covered)
			}
			covered++
		case *tidings.Gap:
			if step.From != covered+1 || !tidings.Stale(step) {
				t.Fatal(step, covered)
			}
			covered = step.To
			gaps++
		}
	}
	if gaps == 0 {
		t.Fatal("no gap")
	}
}
