// Publishes through the client that openapi-generator generated in the parent directory.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	openapi "example.com/ci/tidings"
)

func main() {
	configuration := openapi.NewConfiguration()
	configuration.Servers = openapi.ServerConfigurations{{URL: os.Getenv("TIDINGS_URL")}}
	client := openapi.NewAPIClient(configuration)
	ctx := context.WithValue(context.Background(), openapi.ContextAccessToken, os.Getenv("TIDINGS_TOKEN"))

	request := openapi.NewPublishRequest("openapi.tried")
	request.Channels = []string{"project:go"}
	request.Data = map[string]any{"from": "go"}
	request.SetKey("k")
	published, _, err := client.EventsAPI.Publish(ctx).PublishRequest(*request).Execute()
	if err != nil {
		log.Fatal(err)
	}
	event := openapi.CloudEvent{Specversion: "1.0", Id: "go-1", Source: "/go", Type: "openapi.tried"}
	event.SetChannel("project:go")
	event.Data = map[string]any{"from": "go"}
	second, _, err := client.EventsAPI.PublishCloudEvent(ctx).CloudEvent(event).Execute()
	if err != nil {
		log.Fatal(err)
	}
	history, _, err := client.ChannelsAPI.GetHistory(ctx, "project:go").Execute()
	if err != nil {
		log.Fatal(err)
	}
	if len(history.Events) != 2 || history.Events[0].Id != published.Id || history.Events[1].Id != second.Id {
		log.Fatalf("published %s and %s, and the history is %v", published.Id, second.Id, history.Events)
	}
	stats, _, err := client.ConnectionsAPI.GetStats(ctx).Execute()
	if err != nil {
		log.Fatal(err)
	}
	if stats.Events.Published < 2 {
		log.Fatalf("the statistics count %d events", stats.Events.Published)
	}
	fmt.Println("go:", published.Id)
}
