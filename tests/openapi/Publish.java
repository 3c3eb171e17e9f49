import java.util.List;
import java.util.Map;
import org.openapitools.client.ApiClient;
import org.openapitools.client.api.ChannelsApi;
import org.openapitools.client.api.ConnectionsApi;
import org.openapitools.client.api.EventsApi;
import org.openapitools.client.auth.HttpBearerAuth;
import org.openapitools.client.model.Event;
import org.openapitools.client.model.History;
import org.openapitools.client.model.PublishRequest;
import org.openapitools.client.model.Published;

/** Publishes through the client that openapi-generator generated. */
public final class Publish {
  public static void main(String[] arguments) throws Exception {
    ApiClient client = new ApiClient().setBasePath(System.getenv("TIDINGS_URL"));
    ((HttpBearerAuth) client.getAuthentication("bearer")).setBearerToken(System.getenv("TIDINGS_TOKEN"));
    PublishRequest request =
        new PublishRequest()
            .type("openapi.tried")
            .channels(new java.util.LinkedHashSet<>(List.of("project:java")))
            .data(Map.of("from", "java"));
    Published published = new EventsApi(client).publish(request);
    History history = new ChannelsApi(client).getHistory("project:java", null, null, null);
    List<String> ids = history.getEvents().stream().map(Event::getId).map(Object::toString).toList();
    if (!ids.equals(List.of(published.getId().toString()))) {
      throw new IllegalStateException("published " + published.getId() + ", and the history is " + ids);
    }
    String version = new ConnectionsApi(client).getServer().getVersion();
    if (version.isEmpty()) {
      throw new IllegalStateException("the server has no version");
    }
    System.out.println("java: " + published.getId());
  }
}
