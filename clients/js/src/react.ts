import { createContext, createElement, type ReactNode, useCallback, useContext, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import type { Client } from "./client.js";
import { appendEvent, changePresence } from "./lists.js";
import type { AnyEvents, EventOf, HistoryOptions, Position, Presence, State, StateChange, SubscribeOptions, TypePattern } from "./types.js";

const Context = createContext<Client<any> | undefined>(undefined);
const CONNECTING: StateChange = { state: "connecting" };

/** Provides a client to the components inside. The application creates and closes it. */
export function TidingsProvider({ client, children }: { client: Client<any>; children?: ReactNode }): ReactNode {
  return createElement(Context.Provider, { value: client }, children);
}

/** The client of the nearest `TidingsProvider`. */
export function useTidings<Events = AnyEvents>(): Client<Events> {
  const client = useContext(Context);
  if (!client) throw new Error("useTidings: there is no TidingsProvider around this component");
  return client;
}

/** The state of the connection, with the reason and the reconnect delay if it was lost. */
export function useConnection(): StateChange {
  const client = useTidings();
  return useSyncExternalStore(
    (changed) => client.on("state", changed),
    () => client.connection,
    () => CONNECTING,
  );
}

/** The state of the connection as one word. */
export function useConnectionState(): State {
  return useConnection().state;
}

/** The state of a component's subscription. */
export interface ChannelState {
  status: "subscribing" | "live" | "refused";
  /** From the last resume; missing at first. */
  recovered?: boolean;
  /** Why it was refused. */
  error?: Error;
}

/** The identity of a subscription, as text. */
function keyOf(channel: string | null, { eventTypes, filter, rewind, since, durable, autoAck, minIntervalMs }: SubscribeOptions): string {
  return JSON.stringify([channel, eventTypes, filter, rewind, since, durable, autoAck, minIntervalMs]);
}

/**
 * Subscribes to a channel while the component is mounted; `null` means no subscription. Handlers
 * may change with every render; a changed channel or any other option that is no callback
 * subscribes again.
 */
export function useChannel<Events = AnyEvents, const Pattern extends TypePattern<Events> = keyof Events & string>(
  channel: string | null,
  options: SubscribeOptions<Pattern>,
  handler: (event: EventOf<Events, Pattern>) => void,
): ChannelState {
  const client = useTidings<Events>();
  const latest = useRef({ options, handler });
  useEffect(() => {
    latest.current = { options, handler };
  });
  const key = keyOf(channel, options);
  const watches = options.onPresence !== undefined;
  const [held, setHeld] = useState<{ key: string; state: ChannelState }>({ key, state: { status: "subscribing" } });
  useEffect(() => {
    if (channel === null) return;
    let mounted = true;
    const set = (state: ChannelState) => {
      if (mounted) setHeld({ key, state });
    };
    set({ status: "subscribing" });
    const refuse = (error: Error) => {
      set({ status: "refused", error });
      latest.current.options.onError?.(error);
    };
    try {
      const subscription = client.subscribe<Pattern>(
        channel,
        {
          ...latest.current.options,
          onSubscribed: (how) => {
            set({ status: "live", ...("recovered" in how && { recovered: how.recovered }) });
            latest.current.options.onSubscribed?.(how);
          },
          onStale: (why) => latest.current.options.onStale?.(why),
          onGap: (gap) => latest.current.options.onGap?.(gap),
          ...(watches && { onPresence: (change) => latest.current.options.onPresence?.(change) }),
          onError: refuse,
        },
        (event) => mounted && latest.current.handler(event),
      );
      return () => {
        mounted = false;
        subscription.unsubscribe();
      };
    } catch (thrown) {
      // A closed client: an exception in an effect would unmount the whole tree.
      refuse(thrown as Error);
      return () => void (mounted = false);
    }
  }, [client, channel, key, watches]);
  // Discards the events of the previous subscription.
  return held.key === key ? held.state : { status: "subscribing" };
}

/** The newest events of a channel, oldest first, each once; at most `limit`, 100 by default. */
export function useEvents<Events = AnyEvents, const Pattern extends TypePattern<Events> = keyof Events & string>(
  channel: string | null,
  options: SubscribeOptions<Pattern> & { limit?: number } = {},
): EventOf<Events, Pattern>[] {
  const { limit = 100, ...rest } = options;
  const wanted = rest.since ? rest : { rewind: limit, ...rest };
  const client = useTidings<Events>();
  const key = keyOf(channel, wanted);
  const empty = useMemo<EventOf<Events, Pattern>[]>(() => [], [client, key]);
  const [held, setHeld] = useState({ client, key, events: empty });
  useChannel<Events, Pattern>(channel, wanted, (event) => {
    setHeld((before) => {
      const events = before.key === key && before.client === client ? before.events : [];
      return { client, key, events: appendEvent(events, event as any, limit) as EventOf<Events, Pattern>[] };
    });
  });
  return held.key === key && held.client === client ? held.events : empty;
}

/** The users present in a channel, kept up to date. */
export interface PresenceState extends Presence {
  status: ChannelState["status"];
  error?: Error;
}

/** Tracks the presence of a channel; `null` tracks none. The component itself counts as present. */
export function usePresence(channel: string | null): PresenceState {
  const client = useTidings();
  const [held, setHeld] = useState<{ presence: Presence; error?: Error }>();
  const load = () => {
    if (channel === null) return;
    client.presence(channel).then(
      (presence) => setHeld({ presence }),
      (error) => setHeld({ presence: { channel, users: [], total: 0 }, error }),
    );
  };
  const { status, error } = useChannel(
    channel,
    {
      onSubscribed: load,
      onPresence: (change) => {
        setHeld((before) => before && { ...before, presence: changePresence(before.presence, change) });
      },
    },
    () => {},
  );
  const mine = held && held.presence.channel === channel ? held : undefined;
  const found = error ?? mine?.error;
  return { channel: channel ?? "", users: [], total: 0, ...mine?.presence, status, ...(found && { error: found }) };
}

/** A part of a channel's history. */
export interface HistoryState<Event> {
  status: "loading" | "loaded" | "failed";
  events: Event[];
  error?: Error;
  /** Whether `more` may bring further events. */
  hasMore: boolean;
  /** Reads the next `limit` events. */
  more: () => void;
  /** Reads it again from the beginning. */
  reload: () => void;
}

/** Reads a channel's history in pages; `null` reads none. */
export function useHistory<Events = AnyEvents>(channel: string | null, options: HistoryOptions = {}): HistoryState<EventOf<Events>> {
  type Held = Pick<HistoryState<EventOf<Events>>, "status" | "events" | "error" | "hasMore"> & { key: string };
  const client = useTidings<Events>();
  const { limit = 100, since, reverse } = options;
  const key = JSON.stringify([channel, limit, since, reverse]);
  const blank: Held = { key, status: "loading", events: [], hasMore: false };
  const [held, setHeld] = useState<Held>(blank);
  const run = useRef(0);
  const read = useCallback(
    (from: Position | undefined, before: EventOf<Events>[]) => {
      const mine = ++run.current;
      if (channel === null) return;
      setHeld({ key, status: "loading", events: before, hasMore: false });
      client.history(channel, { limit, ...(from && { since: from }), ...(reverse && { reverse }) }).then(
        ({ events, offset }) => {
          if (mine !== run.current) return;
          const last = events.at(-1)?.offset;
          // A page may be shorter than its limit: the position says whether there is more.
          const hasMore = last !== undefined && (reverse ? last > 1 : last < offset);
          setHeld({ key, status: "loaded", events: [...before, ...events], hasMore });
        },
        (error) => mine === run.current && setHeld({ key, status: "failed", events: before, error, hasMore: before.length > 0 }),
      );
    },
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [client, key],
  );
  useEffect(() => {
    read(since, []);
    return () => void run.current++;
  }, [read]);
  const { key: _, ...shown } = held.key === key ? held : blank;
  const more = () => {
    const { epoch, offset } = shown.events.at(-1) ?? {};
    if (shown.status !== "loading" && epoch !== undefined && offset !== undefined) read({ epoch, offset }, shown.events);
  };
  return { ...shown, more, reload: () => read(since, []) };
}

/** The hooks for one map of event types: unlike `useEvents<Events>(…)` they narrow by `eventTypes`. */
export interface Hooks<Events> {
  useTidings: () => Client<Events>;
  useChannel: <const Pattern extends TypePattern<Events> = keyof Events & string>(
    channel: string | null,
    options: SubscribeOptions<Pattern>,
    handler: (event: EventOf<Events, Pattern>) => void,
  ) => ChannelState;
  useEvents: <const Pattern extends TypePattern<Events> = keyof Events & string>(
    channel: string | null,
    options?: SubscribeOptions<Pattern> & { limit?: number },
  ) => EventOf<Events, Pattern>[];
  useHistory: (channel: string | null, options?: HistoryOptions) => HistoryState<EventOf<Events>>;
}

/** Types the hooks once for an application: `export const { useEvents } = createHooks<Events>()`. */
export function createHooks<Events>(): Hooks<Events> {
  return { useTidings, useChannel, useEvents, useHistory } as unknown as Hooks<Events>;
}
