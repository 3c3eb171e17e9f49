// Events as they come.
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { type EventMessage, Failure, stream } from "./api.ts";
import { clock, count } from "./format.ts";
import { link } from "./state.ts";
import { Copy, Empty, Json, Table, Wrong } from "./ui.tsx";

/** The most events that stay on the page. */
const KEPT = 1000;
/** Above so many events a second the server leaves some out. */
const SAMPLE = 50;

interface Props {
  channel: string;
  filter: string;
  types: string;
  height?: string;
}

interface Line extends EventMessage {
  number: number;
}

/** A link to a trace in the operator's own tool; the address is kept in the browser. */
const template = signal(localStorage.getItem("tidings.console.trace") ?? "");

export function traceOf(event: EventMessage): string | null {
  return event.traceparent?.split("-")[1] ?? null;
}

export function Event({ event }: { event: EventMessage }): JSX.Element {
  const trace = traceOf(event);
  const address = trace === null || !/^https?:\/\//.test(template.value) ? null : template.value.replace("{trace_id}", trace);
  return (
    <div class="event">
      <p>
        <b>{event.type}</b> in {event.channel === undefined ? "no channel" : <a href={link("channels", { name: event.channel })}>{event.channel}</a>}
        {event.offset === undefined ? "" : `, offset ${event.offset}`}, {event.timestamp}
      </p>
      <p class="mono small">
        {event.id} <Copy text={event.id} label="the event's id" />
      </p>
      {trace !== null && (
        <p class="small">
          Trace <span class="mono">{trace}</span> <Copy text={trace} label="the trace id" />{" "}
          {address !== null && (
            <a href={address} target="_blank" rel="noreferrer noopener">
              Open the trace
            </a>
          )}
        </p>
      )}
      {event.headers !== undefined && <Json value={event.headers} />}
      <Json value={event.data_base64 === undefined ? event.data : `${event.content_type}, base64: ${event.data_base64}`} />
    </div>
  );
}

export function TraceTemplate(): JSX.Element {
  return (
    <label class="field">
      Address of a trace
      <input
        value={template.value}
        placeholder="https://traces.example.com/trace/{trace_id}"
        onInput={(event) => {
          template.value = event.currentTarget.value.trim();
          localStorage.setItem("tidings.console.trace", template.value);
        }}
      />
      <small>Kept in this browser. Events lead to their traces by it.</small>
    </label>
  );
}

export function Tail({ channel, filter, types, height }: Props): JSX.Element {
  const [paused, setPaused] = useState(false);
  const [open, setOpen] = useState<Line | null>(null);
  const state = useMemo(
    () => ({
      lines: signal<Line[]>([]),
      skipped: signal(0),
      gaps: signal<string[]>([]),
      failed: signal<Failure | null>(null),
      live: signal(false),
    }),
    [channel, filter, types],
  );
  useEffect(() => {
    if (paused || channel === "") return;
    const abort = new AbortController();
    let number = state.lines.value[0]?.number ?? 0;
    let waiting: Line[] = [];
    // Several events are drawn together: a burst must not redraw the page for each.
    const timer = setInterval(() => {
      if (waiting.length === 0) return;
      state.lines.value = [...waiting.reverse(), ...state.lines.value].slice(0, KEPT);
      waiting = [];
    }, 200);
    void stream(
      "/sse",
      { channel, filter, event_types: types, sample: SAMPLE },
      abort.signal,
      (event) => {
        if (event.name === "message") {
          number += 1;
          waiting.push({ ...(event.data as EventMessage), number });
        } else if (event.name === "sampled") {
          state.skipped.value += (event.data as { skipped: number }).skipped;
        } else if (event.name === "gap") {
          const gap = event.data as { channel: string; from: number; to: number; reason: string };
          state.gaps.value = [...state.gaps.value.slice(-4), `${gap.channel} ${gap.from} to ${gap.to}: ${gap.reason}`];
        }
      },
      (now) => {
        state.live.value = now === "open";
        state.failed.value = now === "open" ? null : now;
      },
    );
    return () => {
      abort.abort();
      clearInterval(timer);
    };
  }, [channel, filter, types, paused, state]);
  if (channel === "") return <Empty>Name a channel, or a pattern such as project:* or *.</Empty>;
  return (
    <div class="tail">
      <p class="actions">
        <button type="button" aria-pressed={paused} onClick={() => setPaused(!paused)}>
          {paused ? "Go on" : "Pause"}
        </button>
        <button
          type="button"
          onClick={() => {
            state.lines.value = [];
            state.skipped.value = 0;
            setOpen(null);
          }}
        >
          Clear
        </button>
        <span class="hint" role="status">
          {paused ? "paused" : state.live.value ? "live" : "connecting"}, {count(state.lines.value.length)} events
        </span>
      </p>
      {state.skipped.value > 0 && (
        <p class="notice" role="status">
          Sampled: {count(state.skipped.value)} events were left out, because more than {SAMPLE} came in a second.
        </p>
      )}
      {state.gaps.value.map((gap) => (
        <p key={gap} class="notice">
          Gap: {gap}
        </p>
      ))}
      {state.failed.value !== null && <Wrong error={state.failed.value} />}
      {state.lines.value.length === 0 ? (
        state.failed.value === null && <Empty>No event yet.</Empty>
      ) : (
        <Table
          label="Events, newest first"
          height={height ?? "50vh"}
          columns={[
            { name: "Time", width: "110px", cell: (row) => clock(row.timestamp) },
            { name: "Channel", width: "minmax(100px, 1fr)", cell: (row) => row.channel ?? "–" },
            { name: "Type", width: "minmax(100px, 1fr)", cell: (row) => row.type },
            { name: "Data", width: "minmax(160px, 3fr)", cell: (row) => <span class="mono small">{JSON.stringify(row.data ?? row.data_base64 ?? null)?.slice(0, 200)}</span> },
          ]}
          rows={state.lines.value}
          keyOf={(row) => String(row.number)}
          selected={open === null ? "" : String(open.number)}
          onOpen={(row) => setOpen(row)}
        />
      )}
      {open !== null && <Event event={open} />}
    </div>
  );
}
