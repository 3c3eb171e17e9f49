import type { JSX } from "preact";
import { loadServer, replace, route, server, serverError } from "../state.ts";
import { Choice, Empty, Field, Loading, Table, usePolling, Wrong } from "../ui.tsx";

export function Configuration(): JSX.Element {
  usePolling(loadServer, 30_000, []);
  const info = server.value;
  if (info === null) return serverError.value === null ? <Loading /> : <Wrong error={serverError.value} retry={() => void loadServer()} />;
  const text = (route.value.query.get("text") ?? "").toLowerCase();
  const only = route.value.query.get("only") ?? "";
  const rows = info.configuration.filter(
    (one) => `${one.key} ${one.value} ${one.source}`.toLowerCase().includes(text) && (only === "" || (one.source !== "default") === (only === "set")),
  );
  return (
    <>
      <form class="filters" role="search" aria-label="Filter settings" onSubmit={(event) => event.preventDefault()}>
        <Field label="Contains" value={route.value.query.get("text") ?? ""} placeholder="limits." onChange={(value) => replace({ text: value })} />
        <Choice label="Which" value={only} options={[["", "all"], ["set", "set somewhere"], ["default", "defaults"]]} onChange={(value) => replace({ only: value })} />
      </form>
      {rows.length === 0 ? (
        <Empty>No setting matches.</Empty>
      ) : (
        <Table
          label="Configuration"
          columns={[
            { name: "Key", width: "minmax(180px, 1.5fr)", cell: (row) => <span class="mono">{row.key}</span> },
            { name: "Value", width: "minmax(140px, 2fr)", cell: (row) => (row.secret ? <i>secret, not shown</i> : <span class="mono">{row.value}</span>) },
            { name: "Source", width: "minmax(140px, 1.5fr)", cell: (row) => (row.source === "default" ? <span class="faint">default</span> : row.source) },
            { name: "Changes by", width: "110px", cell: (row) => (row.reloads ? "SIGHUP" : "restart") },
          ]}
          rows={rows}
          keyOf={(row) => row.key}
        />
      )}
    </>
  );
}
