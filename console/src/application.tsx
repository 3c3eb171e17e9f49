// The application behind the server, on the overview: webhooks and sources of this node.
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { get, post, type Source, type Webhook } from "./api.ts";
import { bytes, count, rate, span } from "./format.ts";
import { ask, isAdmin, tell } from "./state.ts";
import { Facts, usePolling, Wrong } from "./ui.tsx";

const webhooks = signal<Webhook[]>([]);
const sources = signal<Source[]>([]);
const failed = signal<Error | null>(null);

async function load(abort: AbortSignal): Promise<void> {
  try {
    const [hooks, read] = await Promise.all([
      get<{ webhooks: Webhook[] }>("/api/v1/webhooks", {}, abort),
      get<{ sources: Source[] }>("/api/v1/sources", {}, abort),
    ]);
    webhooks.value = hooks.webhooks;
    sources.value = read.sources;
    failed.value = null;
  } catch (error) {
    if (!abort.aborted) failed.value = error as Error;
  }
}

async function resend(webhook: Webhook): Promise<void> {
  const text = `The ${count(webhook.dead_letters)} dead letters of ${webhook.url} are queued behind everything else, with the same ids.`;
  if ((await ask("Send again?", text, "Send again")) === null) return;
  try {
    const { resent } = await post<{ resent: number }>(`/api/v1/webhooks/resend?url=${encodeURIComponent(webhook.url)}`, "");
    tell(`Queued ${count(resent)} events again. It stands in the audit log.`);
    await load(new AbortController().signal);
  } catch (error) {
    tell((error as Error).message, true);
  }
}

/** Nothing where neither is configured. */
export function Application(): JSX.Element | null {
  usePolling(load, 10_000, []);
  if (failed.value !== null) return <Wrong error={failed.value} />;
  if (webhooks.value.length + sources.value.length === 0) return null;
  return (
    <div class="columns">
      {webhooks.value.map((webhook) => (
        <section key={webhook.url}>
          <h2>Webhook</h2>
          <p class="mono">{webhook.url}</p>
          <Facts
            facts={[
              ["State", webhook.state === "delivering" ? "delivers" : <b class="bad">{webhook.state}</b>],
              ["Queue", `${count(webhook.queued)} events, ${bytes(webhook.queued_bytes)}`],
              ["Oldest waits for", span(webhook.lag_seconds * 1000)],
              ["Delivered", count(webhook.delivered)],
              ["Failed requests", webhook.failures === 0 ? "0" : `${count(webhook.failures)}: ${webhook.last_error}`],
              ["Dropped", webhook.dropped === 0 ? "0" : <b class="bad">{count(webhook.dropped)}</b>],
              ["Dead letters", webhook.dead_letters === 0 ? "0" : <b class="bad">{count(webhook.dead_letters)}</b>],
              ["Events", webhook.events.join(", ")],
            ]}
          />
          {isAdmin.value && webhook.dead_letters > 0 && (
            <button type="button" onClick={() => void resend(webhook)}>
              Send dead letters again
            </button>
          )}
        </section>
      ))}
      {sources.value.map((source) => (
        <section key={source.name}>
          <h2>Source {source.name}</h2>
          <Facts
            facts={[
              ["Kind", source.kind],
              ["Server", source.server],
              ["State", source.connected ? "connected" : <b class="bad">not connected</b>],
              ["Waiting", source.lag === null ? "unknown" : `${count(source.lag)} records, the oldest for ${span(source.lag_seconds * 1000)}`],
              ["Rate", rate(source.rate)],
              ["Published", `${count(source.events)}, ${count(source.duplicates)} of them repeats`],
              ["Failures", source.last_failure === null ? "0" : `${count(source.failures)}: ${source.last_failure}`],
              ["Dead letters", source.dead_letters === 0 ? "0" : <b class="bad">{count(source.dead_letters)}</b>],
            ]}
          />
          {source.recent_dead_letters.length > 0 && (
            <ul>
              {source.recent_dead_letters.slice(0, 5).map((letter) => (
                <li key={letter.record}>
                  <span class="mono">{letter.record}</span> {letter.channel}: {letter.reason}
                </li>
              ))}
            </ul>
          )}
        </section>
      ))}
    </div>
  );
}
