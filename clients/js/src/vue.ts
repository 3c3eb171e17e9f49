import { inject, type InjectionKey, type MaybeRefOrGetter, onScopeDispose, provide, shallowReadonly, type ShallowRef, shallowRef, toValue, watch } from "vue";
import type { Client } from "./client.js";
import { type EventsValue, connectionStore, eventsStore, presenceStore, type Readable } from "./stores.js";
import type { AnyEvents, EventOf, Presence, StateChange, SubscribeOptions, TypePattern } from "./types.js";

const KEY: InjectionKey<Client<any>> = Symbol("tidings");

/** A value that components read but don't write. */
type Shown<Value> = Readonly<ShallowRef<Value>>;

/** Provides a client to the components inside: call it in `setup`, or use `tidings(client)` as a plugin. */
export function provideTidings(client: Client<any>): void {
  provide(KEY, client);
}

/** A plugin: `app.use(tidings(client))`. */
export function tidings(client: Client<any>): { install(app: { provide(key: symbol, value: unknown): unknown }): void } {
  return { install: (app) => void app.provide(KEY as symbol, client) };
}

/** The client that was provided. */
export function useTidings<Events = AnyEvents>(): Client<Events> {
  const client = inject(KEY, undefined);
  if (!client) throw new Error("useTidings: provide a client with provideTidings or app.use(tidings(client))");
  return client;
}

/** Reads a store until the scope ends; another key starts another store. */
function read<Value>(blank: Value, key: () => string | null, store: () => Readable<Value>): Shown<Value> {
  const value = shallowRef(blank) as ShallowRef<Value>;
  let stop: (() => void) | undefined;
  const ended = watch(
    key,
    (now) => {
      stop?.();
      stop = undefined;
      value.value = blank;
      // During server-side rendering nothing would end it.
      if (now !== null && typeof document !== "undefined") stop = store().subscribe((found) => (value.value = found));
    },
    { immediate: true, flush: "sync" },
  );
  onScopeDispose(() => {
    ended();
    stop?.();
  });
  return shallowReadonly(value) as Shown<Value>;
}

/** The newest events of a channel, and the state of the subscription. Channel and options may be refs or getters. */
export function useEvents<Events = AnyEvents, const Pattern extends TypePattern<Events> = keyof Events & string>(
  channel: MaybeRefOrGetter<string | null>,
  options: MaybeRefOrGetter<SubscribeOptions<Pattern> & { limit?: number }> = {},
): Shown<EventsValue<EventOf<Events, Pattern>>> {
  const client = useTidings<Events>();
  const key = () => {
    const { eventTypes, filter, rewind, since, limit, durable, autoAck, minIntervalMs } = toValue(options);
    const name = toValue(channel);
    return name === null ? null : JSON.stringify([name, eventTypes, filter, rewind, since, limit, durable, autoAck, minIntervalMs]);
  };
  const blank: EventsValue<EventOf<Events, Pattern>> = { events: [], status: "subscribing" };
  return read(blank, key, () => eventsStore<Events, Pattern>(client, toValue(channel)!, toValue(options)));
}

/** The users present in a channel. */
export function usePresence(channel: MaybeRefOrGetter<string | null>): Shown<Presence & { error?: Error }> {
  const client = useTidings();
  const blank = { channel: "", users: [], total: 0 };
  return read<Presence & { error?: Error }>(blank, () => toValue(channel), () => presenceStore(client, toValue(channel)!));
}

/** The state of the connection. */
export function useConnection(): Shown<StateChange> {
  const client = useTidings();
  return read(client.connection, () => "", () => connectionStore(client));
}
