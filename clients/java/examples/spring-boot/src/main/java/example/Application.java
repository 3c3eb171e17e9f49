package example;

import dev.tidings.NewEvent;
import dev.tidings.TidingsClient;
import java.util.concurrent.TimeUnit;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.CommandLineRunner;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;

/** Publishes a greeting, and ends when the subscriber has it. */
@SpringBootApplication
public class Application {
  public static void main(String[] arguments) {
    System.exit(SpringApplication.exit(SpringApplication.run(Application.class, arguments)));
  }

  /** One client for the whole application. Spring closes it at the end. */
  @Bean
  TidingsClient tidings(
      @Value("${tidings.server:127.0.0.1:50051}") String server, @Value("${tidings.token:}") String token) {
    return TidingsClient.to(server).token(token.isEmpty() ? null : token).build();
  }

  @Bean
  CommandLineRunner greet(TidingsClient tidings, EventSubscriber subscriber) {
    return arguments -> {
      subscriber.subscribed().await(30, TimeUnit.SECONDS);
      tidings.publish(NewEvent.json("greeting", "{\"text\":\"hello from Java\"}").to("demo"));
      subscriber.received().await(30, TimeUnit.SECONDS);
    };
  }
}
