import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { get, type Sample } from "../api.ts";
import { Application } from "../application.tsx";
import { Chart } from "../chart.tsx";
import { bytes, count, millis, rate, span } from "../format.ts";
import { link, loadServer, server, serverError } from "../state.ts";
import { Empty, Facts, Loading, usePolling, Wrong } from "../ui.tsx";

const samples = signal<Sample[] | null>(null);
const failed = signal<Error | null>(null);
/** An hour in steps of five seconds. */
const KEPT = 720;

async function load(abort: AbortSignal): Promise<void> {
  try {
    const after = samples.value?.at(-1)?.time;
    const answer = await get<{ samples: Sample[] }>("/api/v1/stats/history", { after }, abort);
    samples.value = [...(samples.value ?? []), ...answer.samples].slice(-KEPT);
    failed.value = null;
  } catch (error) {
    if (!abort.aborted) failed.value = error as Error;
  }
}

const LEVELS = new Set(["history.memory_bytes", "limits.event_bytes", "limits.message_bytes", "limits.outbox_bytes"]);

export function Overview(): JSX.Element {
  usePolling(load, 5000, []);
  usePolling(loadServer, 10_000, []);
  const all = samples.value;
  const info = server.value;
  if (failed.value !== null && all === null) return <Wrong error={failed.value} retry={() => void load(new AbortController().signal)} />;
  if (all === null || info === null) return serverError.value === null ? <Loading /> : <Wrong error={serverError.value} />;
  const times = all.map((sample) => Date.parse(sample.time) / 1000);
  const per = (pick: (sample: Sample) => number) => all.map((sample) => pick(sample) / sample.seconds);
  const last = all.at(-1);
  const latency = (pick: (sample: Sample) => number) => all.map((sample) => (sample.delivered > 0 ? pick(sample) : null));
  const { process, store } = info;
  return (
    <>
      {failed.value !== null && <Wrong error={failed.value} />}
      {last === undefined || all.length < 2 ? (
        <Empty>The series begin ten seconds after the start of the server.</Empty>
      ) : (
        <div class="charts">
          <Chart
            title="Connections"
            now={count(last.connections)}
            times={times}
            format={count}
            series={[{ name: "connections", color: "--c1", values: all.map((sample) => sample.connections) }]}
          />
          <Chart
            title="Published"
            now={rate(last.published / last.seconds)}
            times={times}
            format={rate}
            series={[{ name: "published", color: "--c2", values: per((sample) => sample.published) }]}
          />
          <Chart
            title="Delivered"
            now={rate(last.delivered / last.seconds)}
            times={times}
            format={rate}
            series={[
              { name: "delivered", color: "--c1", values: per((sample) => sample.delivered) },
              { name: "replayed", color: "--c4", values: per((sample) => sample.replayed) },
            ]}
          />
          <Chart
            title="Latency"
            now={last.delivered > 0 ? `${millis(last.latency_p50_ms)} / ${millis(last.latency_p99_ms)}` : "–"}
            times={times}
            format={millis}
            series={[
              { name: "p50", color: "--c1", values: latency((sample) => sample.latency_p50_ms) },
              { name: "p99", color: "--c3", values: latency((sample) => sample.latency_p99_ms) },
            ]}
          />
          <Chart
            title="Drops"
            now={rate(last.dropped / last.seconds)}
            times={times}
            format={rate}
            series={[
              { name: "dropped", color: "--c3", values: per((sample) => sample.dropped) },
              { name: "conflated", color: "--c4", values: per((sample) => sample.conflated) },
              { name: "outbox full", color: "--c5", values: per((sample) => sample.slow_consumers) },
            ]}
          />
          <Chart
            title="Refusals"
            now={rate(last.refused / last.seconds)}
            times={times}
            format={rate}
            series={[{ name: "refused", color: "--c3", values: per((sample) => sample.refused) }]}
          />
          <Chart
            title="Processor"
            now={`${((100 * last.cpu_seconds) / last.seconds).toFixed(1)} %`}
            times={times}
            format={(value) => `${value.toFixed(value < 10 ? 1 : 0)} %`}
            series={[{ name: "of one processor", color: "--c5", values: all.map((sample) => (100 * sample.cpu_seconds) / sample.seconds) }]}
          />
          <Chart
            title="Memory"
            now={bytes(last.resident_bytes)}
            times={times}
            format={bytes}
            series={[
              { name: "resident", color: "--c1", values: all.map((sample) => sample.resident_bytes) },
              { name: "outboxes", color: "--c3", values: all.map((sample) => sample.outbox_bytes) },
            ]}
          />
        </div>
      )}
      <div class="columns">
        <section>
          <h2>Server</h2>
          <Facts
            facts={[
              ["Node", info.node],
              ["Version", info.version],
              ["Up", span(Date.parse(info.now) - Date.parse(info.started_at))],
              ["Public listener", info.public_address],
              ["Internal listener", info.internal_address],
              ["Processors, shards", `${process.processors}, ${process.shards}`],
              ["Threads", process.threads],
              ["Descriptors", `${process.open_files === null ? "–" : count(process.open_files)} of ${process.open_files_limit === null ? "any" : count(process.open_files_limit)}`],
              ["Mode", info.dev ? "--dev: everything undeclared is open" : "production"],
            ]}
          />
        </section>
        <section>
          <h2>Store</h2>
          <Facts
            facts={[
              ["Store", store.durability === "" ? store.kind : `${store.kind}, ${store.durability}`],
              ["State", store.available ? "writes" : <b class="bad">cannot write: publishes are refused</b>],
              ["History in memory", bytes(store.bytes)],
              ["Bound", store.limit_bytes === 0 ? "none" : bytes(store.limit_bytes)],
            ]}
          />
          <h2>Closes by code</h2>
          {Object.keys(info.closes).length === 0 ? (
            <Empty>No connection was closed yet.</Empty>
          ) : (
            <Facts facts={Object.entries(info.closes).map(([code, n]) => [code === "0" ? "others" : code, count(n)])} />
          )}
          <p>
            <a href={link("refusals")}>The newest refusals</a>
          </p>
        </section>
        <section>
          <h2>Nodes</h2>
          <ul class="limits">
            {info.nodes.map((node) => (
              <li key={node.id}>
                <a class="mono" href={link("connections", { node: node.name })}>
                  {node.name}
                </a>
                <span>{node.leaving ? <b class="bad">leaving</b> : node.self ? "answers" : `heard ${span(node.heard_ago_seconds * 1000)} ago`}</span>
                <span>
                  {count(node.connections)} connections, version {node.version}
                </span>
                <span>{node.round_trip_ms === null ? "" : `engine in ${millis(node.round_trip_ms)}`}</span>
              </li>
            ))}
          </ul>
        </section>
        <section>
          <h2>Limits</h2>
          <ul class="limits">
            {info.limits.map((limit) => {
              const show = LEVELS.has(limit.key) ? bytes : count;
              const share = limit.used === null || limit.limit === 0 ? 0 : limit.used / limit.limit;
              return (
                <li key={limit.key}>
                  <span class="mono">{limit.key}</span>
                  <span>
                    {limit.used === null ? "" : `${show(limit.used)} of `}
                    {limit.limit === 0 ? "no limit" : show(limit.limit)}
                  </span>
                  {limit.used !== null && limit.limit > 0 && (
                    <meter min={0} max={1} high={0.9} low={0.75} optimum={0} value={Math.min(1, share)} aria-label={`${limit.key}: ${Math.round(share * 100)} % used`} />
                  )}
                  {limit.reached > 0 && <b class="bad">reached {count(limit.reached)} ×</b>}
                </li>
              );
            })}
          </ul>
        </section>
      </div>
      <Application />
    </>
  );
}
