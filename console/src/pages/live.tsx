import type { JSX } from "preact";
import { replace, route } from "../state.ts";
import { Tail, TraceTemplate } from "../tail.tsx";
import { Field } from "../ui.tsx";

export function Live(): JSX.Element {
  const given = route.value.query;
  const channel = given.get("channel") ?? "*";
  const filter = given.get("filter") ?? "";
  const types = given.get("types") ?? "";
  return (
    <>
      <form class="filters" role="search" aria-label="Choose events" onSubmit={(event) => event.preventDefault()}>
        <Field label="Channel or pattern" value={channel} placeholder="project:*" onChange={(value) => replace({ channel: value })} />
        <Field label="Event types" value={types} placeholder="project.*" onChange={(value) => replace({ types: value })} />
        <Field label="Filter (CEL)" value={filter} placeholder="data.status == 'done'" onChange={(value) => replace({ filter: value })} />
        <TraceTemplate />
      </form>
      <Tail channel={channel} filter={filter} types={types} />
    </>
  );
}
