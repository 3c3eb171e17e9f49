import { createContext, createElement, type ReactNode, useContext, useEffect, useRef, useState, useSyncExternalStore } from "react";
import type { Client } from "./client.js";
import type { AnyEvents, EventOf, State, SubscribeOptions, TypePattern } from "./types.js";

const Context = createContext<Client<any> | undefined>(undefined);

/** Gives the components inside a client. Making and closing it is the application's. */
export function TidingsProvider({ client, children }: { client: Client<any>; children?: ReactNode }): ReactNode {
  return createElement(Context.Provider, { value: client }, children);
}

/** The client of the nearest `TidingsProvider`. */
export function useTidings<Events = AnyEvents>(): Client<Events> {
  const client = useContext(Context);
  if (!client) throw new Error("useTidings: there is no TidingsProvider around this component");
  return client;
}

/** How the connection stands. */
export function useConnectionState(): State {
  const client = useTidings();
  return useSyncExternalStore(
    (changed) => client.on("state", changed),
    () => client.state,
    () => "connecting" as const,
  );
}

/** How a component's subscription stands. */
export interface ChannelState {
  status: "subscribing" | "live" | "refused";
  /** Of the last resumption; missing at first. */
  recovered?: boolean;
  /** Why it was refused. */
  error?: Error;
}

/**
 * Follows a channel while the component is mounted; `null` follows none. Handlers may be new ones
 * with every render; a changed channel, filter, list of types or `rewind` subscribes anew.
 */
export function useChannel<Events = AnyEvents, const Pattern extends TypePattern<Events> = keyof Events & string>(
  channel: string | null,
  options: SubscribeOptions<Pattern>,
  handler: (event: EventOf<Events, Pattern>) => void,
): ChannelState {
  const client = useTidings<Events>();
  const [state, setState] = useState<ChannelState>({ status: "subscribing" });
  const latest = useRef({ options, handler });
  useEffect(() => {
    latest.current = { options, handler };
  });
  const { eventTypes, filter, rewind } = options;
  const types = eventTypes?.join(" ");
  const watches = options.onPresence !== undefined;
  useEffect(() => {
    setState({ status: "subscribing" });
    if (channel === null) return;
    let mounted = true;
    const subscription = client.subscribe<Pattern>(
      channel,
      {
        ...latest.current.options,
        onSubscribed: (how) => {
          if (mounted) setState({ status: "live", ...("recovered" in how && { recovered: how.recovered }) });
          latest.current.options.onSubscribed?.(how);
        },
        onStale: (why) => latest.current.options.onStale?.(why),
        onGap: (gap) => latest.current.options.onGap?.(gap),
        ...(watches && { onPresence: (change) => latest.current.options.onPresence?.(change) }),
        onError: (error) => {
          if (mounted) setState({ status: "refused", error });
          latest.current.options.onError?.(error);
        },
      },
      (event) => latest.current.handler(event),
    );
    return () => {
      mounted = false;
      subscription.unsubscribe();
    };
  }, [client, channel, types, filter, rewind, watches]);
  return state;
}

/** The newest events of a channel, oldest first; at most `limit`, 100 unless told. */
export function useEvents<Events = AnyEvents, const Pattern extends TypePattern<Events> = keyof Events & string>(
  channel: string | null,
  options: SubscribeOptions<Pattern> & { limit?: number } = {},
): EventOf<Events, Pattern>[] {
  const { limit = 100, ...rest } = options;
  const [events, setEvents] = useState<EventOf<Events, Pattern>[]>([]);
  useEffect(() => setEvents([]), [channel]);
  useChannel<Events, Pattern>(channel, { rewind: limit, ...rest }, (event) => {
    setEvents((before) => [...before, event].slice(-limit));
  });
  return events;
}
