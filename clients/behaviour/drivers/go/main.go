// Driver of the client for Go.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	tidings "github.com/tidings/tidings/clients/go"
)

type testCase struct {
	Server    string
	Token     string
	Tokens    []string
	Publish   *int
	Stream    bool
	Subscribe struct {
		Channels      []string
		Since         map[string]string
		Rewind        uint32
		Durable       string
		AutoAck       bool  `json:"auto_ack"`
		MinIntervalMs int64 `json:"min_interval_ms"`
		Acks          [][2]uint64
	}
}

func main() {
	var given testCase
	check(json.Unmarshal([]byte(os.Args[1]), &given))
	options := tidings.Options{
		Token: given.Token, Backoff: tidings.Backoff{First: 20 * time.Millisecond, Longest: 100 * time.Millisecond},
	}
	if given.Tokens != nil {
		options.TokenSource = func(context.Context) (string, error) {
			token := given.Tokens[0]
			given.Tokens = given.Tokens[1:]
			return token, nil
		}
	}
	client, err := tidings.New(given.Server, options)
	check(err)
	defer client.Close()
	if given.Publish != nil {
		publish(client, given)
	} else {
		subscribe(client, given)
	}
}

func publish(client *tidings.Client, given testCase) {
	ctx := context.Background()
	publisher, err := client.Publisher(100)
	check(err)
	defer publisher.Close()
	var pending []*tidings.Pending
	for n := range *given.Publish {
		event := tidings.NewEvent{Channels: []string{"project:1"}, Type: "n", Data: n}
		if given.Stream {
			one, err := publisher.Publish(ctx, event)
			check(err)
			pending = append(pending, one)
		} else {
			published, err := client.Publish(ctx, event)
			say(n, published, err)
		}
	}
	for n, one := range pending {
		published, err := one.Wait(ctx)
		say(n, published, err)
	}
}

func say(n int, published *tidings.Published, err error) {
	if err != nil {
		fmt.Println("failed", tidings.Code(err))
		return
	}
	fmt.Println("published", n, published.Position().Offset)
}

func subscribe(client *tidings.Client, given testCase) {
	options := tidings.SubscribeOptions{
		Rewind: given.Subscribe.Rewind, Since: map[string]tidings.Position{}, Durable: given.Subscribe.Durable,
		AutoAck: given.Subscribe.AutoAck, MinInterval: time.Duration(given.Subscribe.MinIntervalMs) * time.Millisecond,
	}
	for channel, text := range given.Subscribe.Since {
		position, err := tidings.ParsePosition(text)
		check(err)
		options.Since[channel] = position
	}
	subscription, err := client.Subscribe(given.Subscribe.Channels, options)
	check(err)
	for step, err := range subscription.Steps(context.Background()) {
		if err != nil {
			fmt.Println("failed", tidings.Code(err))
			return
		}
		channel := ""
		switch step := step.(type) {
		case *tidings.Event:
			if step.Position != nil {
				fmt.Println("event", step.Channel, step.Position.Offset)
				for _, ack := range given.Subscribe.Acks {
					if ack[0] == step.Position.Offset {
						check(subscription.Ack(context.Background(), step.Channel, ack[1]))
					}
				}
			} else {
				fmt.Println("event", step.Channel, "-")
			}
		case *tidings.Gap:
			channel = step.Channel
		case *tidings.Subscribed:
			channel = step.Channel
		}
		if tidings.Stale(step) {
			fmt.Println("stale", channel)
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
