// Follows a channel over restarts of this program: keeps its position in a file.
//
//	resume CHANNEL FILE COUNT
//
// Environment: TIDINGS_SERVER (127.0.0.1:50051) and TIDINGS_TOKEN.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	tidings "github.com/tidings/tidings/clients/go"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: resume CHANNEL FILE COUNT")
	}
	channel, file := os.Args[1], os.Args[2]
	count, err := strconv.Atoi(os.Args[3])
	check(err)
	options := tidings.SubscribeOptions{Rewind: 100}
	if kept, err := os.ReadFile(file); err == nil {
		position, err := tidings.ParsePosition(string(kept))
		check(err)
		options = tidings.SubscribeOptions{Since: map[string]tidings.Position{channel: position}}
	}
	client, err := tidings.New(os.Getenv("TIDINGS_SERVER"), tidings.Options{Token: os.Getenv("TIDINGS_TOKEN")})
	check(err)
	defer client.Close()
	subscription, err := client.Subscribe([]string{channel}, options)
	check(err)
	defer subscription.Close()
	reload := func(tidings.Step) { fmt.Println("reload the state") }
	for event, err := range subscription.Events(context.Background(), reload) {
		check(err)
		fmt.Println(event.Type, string(event.Data))
		if event.Position != nil {
			check(os.WriteFile(file, []byte(event.Position.String()), 0o600))
		}
		if count--; count == 0 {
			return
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
