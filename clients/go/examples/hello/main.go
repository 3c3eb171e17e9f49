// Publishes an event and receives it.
//
// Environment: TIDINGS_SERVER (127.0.0.1:50051) and TIDINGS_TOKEN, as `tidings serve --dev` prints it.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	tidings "github.com/tidings/tidings/clients/go"
)

func main() {
	server := os.Getenv("TIDINGS_SERVER")
	if server == "" {
		server = "127.0.0.1:50051"
	}
	ctx := context.Background()
	client, err := tidings.New(server, tidings.Options{Token: os.Getenv("TIDINGS_TOKEN")})
	check(err)
	defer client.Close()
	subscription, err := client.Subscribe([]string{"demo"}, tidings.SubscribeOptions{})
	check(err)
	defer subscription.Close()
	for step, err := range subscription.Steps(ctx) {
		check(err)
		switch step := step.(type) {
		case *tidings.Subscribed:
			_, err := client.Publish(ctx, tidings.NewEvent{
				Channels: []string{"demo"}, Type: "greeting", Data: map[string]string{"text": "hello from Go"},
			})
			check(err)
		case *tidings.Event:
			fmt.Println(step.Type, string(step.Data))
			return
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
