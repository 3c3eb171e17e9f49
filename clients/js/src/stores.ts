import type { Client } from "./client.js";
import { appendEvent, changePresence } from "./lists.js";
import type { AnyEvents, EventOf, Presence, StateChange, SubscribeOptions, TypePattern } from "./types.js";

/** The supported part of Svelte's store contract: `$store` reads it in a component. */
export interface Readable<Value> {
  subscribe(run: (value: Value) => void): () => void;
}

/** The state of a subscription. */
export interface EventsValue<Event> {
  events: Event[];
  status: "subscribing" | "live" | "refused";
  recovered?: boolean;
  error?: Error;
}

/** A store that is subscribed while it has readers. */
function readable<Value>(initial: Value, follow: (set: (change: (before: Value) => Value) => void) => () => void): Readable<Value> {
  const readers = new Set<(value: Value) => void>();
  let value = initial;
  let stop: (() => void) | undefined;
  return {
    subscribe(run) {
      readers.add(run);
      let told = false;
      if (readers.size === 1) {
        value = initial;
        let current = true;
        const end = follow((change) => {
          if (!current) return;
          value = change(value);
          for (const reader of [...readers]) if (reader !== run || told) reader(value);
        });
        stop = () => {
          current = false;
          end();
        };
      }
      run(value);
      told = true;
      return () => {
        if (!readers.delete(run) || readers.size) return;
        stop?.();
        stop = undefined;
      };
    },
  };
}

/** A store of the newest events of a channel, oldest first, each once; at most `limit`, 100 by default. */
export function eventsStore<Events = AnyEvents, const Pattern extends TypePattern<Events> = keyof Events & string>(
  client: Client<Events>,
  channel: string,
  options: SubscribeOptions<Pattern> & { limit?: number } = {},
): Readable<EventsValue<EventOf<Events, Pattern>>> {
  type Value = EventsValue<EventOf<Events, Pattern>>;
  const { limit = 100, ...rest } = options;
  return readable<Value>({ events: [], status: "subscribing" }, (set) => {
    const subscription = client.subscribe<Pattern>(
      channel,
      {
        ...(rest.since ? rest : { rewind: limit, ...rest }),
        onSubscribed: (how) => {
          set(({ events }) => ({ events, status: "live", ...("recovered" in how && { recovered: how.recovered }) }));
          rest.onSubscribed?.(how);
        },
        onError: (error) => {
          set(({ events }) => ({ events, status: "refused", error }));
          rest.onError?.(error);
        },
      },
      (event) => set((before) => ({ ...before, events: appendEvent(before.events, event as any, limit) as any })),
    );
    return () => subscription.unsubscribe();
  });
}

/** A store of the users present in a channel. The store itself counts as present while it is read. */
export function presenceStore(client: Client<any>, channel: string): Readable<Presence & { error?: Error }> {
  return readable<Presence & { error?: Error }>({ channel, users: [], total: 0 }, (set) => {
    const failed = (error: Error) => set((before) => ({ ...before, error }));
    const load = () => void client.presence(channel).then((presence) => set(() => presence), failed);
    const options: SubscribeOptions = {
      onSubscribed: load,
      onPresence: (change) => set((before) => ({ ...before, ...changePresence(before, change) })),
      onError: failed,
    };
    const subscription = client.subscribe(channel, options, () => {});
    return () => subscription.unsubscribe();
  });
}

/** A store of the connection's state. */
export function connectionStore(client: Client<any>): Readable<StateChange> {
  return readable<StateChange>(client.connection, (set) => {
    set(() => client.connection);
    return client.on("state", (change) => set(() => change));
  });
}
