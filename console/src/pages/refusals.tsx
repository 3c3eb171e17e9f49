import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { Failure, type Refusal, stream } from "../api.ts";
import { clock, count } from "../format.ts";
import { link, replace, route } from "../state.ts";
import { Choice, Empty, Facts, Field, Loading, Panel, Table, Wrong } from "../ui.tsx";

const all = signal<Refusal[] | null>(null);
const missed = signal(0);
const failed = signal<Failure | null>(null);
const KEPT = 1000;

const KINDS: [string, string][] = [
  ["", "all"],
  ["refused", "refused"],
  ["authentication_failed", "authentication failed"],
  ["subscribe_refused", "subscribe refused"],
  ["publish_refused", "publish refused"],
  ["disconnect", "closed"],
];

export function Refusals(): JSX.Element {
  useEffect(() => {
    const abort = new AbortController();
    all.value = null;
    missed.value = 0;
    void stream(
      "/api/v1/refusals",
      {},
      abort.signal,
      (event) => {
        if (event.name !== "refusals") return;
        const answer = event.data as { refusals: Refusal[]; missed: number };
        const newest = all.value?.[0]?.sequence ?? 0;
        const fresh = answer.refusals.filter((one) => one.sequence > newest).reverse();
        if (newest > 0) missed.value += answer.missed;
        all.value = [...fresh, ...(all.value ?? [])].slice(0, KEPT);
      },
      (state) => {
        if (state === "open") {
          failed.value = null;
          // The first message follows at once if there is anything.
          setTimeout(() => {
            all.value ??= [];
          }, 600);
        } else failed.value = state;
      },
    );
    return () => abort.abort();
  }, []);
  const given = route.value.query;
  const text = (given.get("text") ?? "").toLowerCase();
  const kind = given.get("kind") ?? "";
  const open = given.get("n");
  const rows = (all.value ?? []).filter(
    (one) =>
      (kind === "" || one.kind === kind) &&
      (text === "" || [one.reason, one.user, one.address, one.channel, one.code, one.event_type, String(one.close_code)].some((part) => part.toLowerCase().includes(text))),
  );
  const shown = open === null || open === "" ? undefined : all.value?.find((one) => String(one.sequence) === open);
  return (
    <>
      <form class="filters" role="search" aria-label="Filter refusals" onSubmit={(event) => event.preventDefault()}>
        <Choice label="Kind" value={kind} options={KINDS} onChange={(value) => replace({ kind: value })} />
        <Field label="Contains" value={given.get("text") ?? ""} placeholder="reason, user, channel, code" onChange={(value) => replace({ text: value })} />
      </form>
      {failed.value !== null && <Wrong error={failed.value} />}
      {missed.value > 0 && <p class="notice">{count(missed.value)} came too fast to be shown. The audit log has them all.</p>}
      {all.value === null ? (
        failed.value === null && <Loading />
      ) : rows.length === 0 ? (
        <Empty>{all.value.length === 0 ? "Nothing was refused, and nothing was closed for a reason." : "None of them matches."}</Empty>
      ) : (
        <Table
          label="Refusals and closes, newest first"
          columns={[
            { name: "Time", width: "110px", cell: (row) => clock(row.time) },
            { name: "Kind", width: "150px", cell: (row) => row.kind.replaceAll("_", " ") },
            { name: "Code", width: "150px", cell: (row) => (row.code === "" ? String(row.close_code) : row.code) },
            { name: "Reason", width: "minmax(180px, 3fr)", cell: (row) => row.reason },
            { name: "User", width: "minmax(90px, 1fr)", cell: (row) => row.user },
            { name: "Channel", width: "minmax(90px, 1fr)", cell: (row) => row.channel },
            { name: "Address", width: "minmax(120px, 1fr)", cell: (row) => row.address },
          ]}
          rows={rows}
          keyOf={(row) => String(row.sequence)}
          selected={open ?? ""}
          onOpen={(row) => replace({ n: String(row.sequence) })}
        />
      )}
      <p class="hint">The newest {KEPT} since the start of the server. Texts are cut off at 256 bytes.</p>
      {shown !== undefined && (
        <Panel title={shown.kind.replaceAll("_", " ")} onClose={() => replace({ n: "" })}>
          <p class="actions">
            {shown.channel !== "" && (
              <a class="button" href={link("why", { user: shown.user, channel: shown.channel, action: shown.kind === "publish_refused" ? "publish" : "subscribe", event_type: shown.event_type })}>
                Why not?
              </a>
            )}
            {shown.user !== "" && (
              <a class="button" href={link("connections", { user: shown.user })}>
                Connections of this user
              </a>
            )}
          </p>
          <Facts
            facts={[
              ["Time", shown.time],
              ["Reason", shown.reason],
              ["Code", shown.code],
              ["Close code", shown.close_code === 0 ? "" : String(shown.close_code)],
              ["By", shown.by],
              ["User", shown.user],
              ["Address", shown.address],
              ["Transport", shown.transport],
              ["Channel", shown.channel],
              ["Event type", shown.event_type],
              ["Connection", shown.connection_id],
            ]}
          />
        </Panel>
      )}
    </>
  );
}
