import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { type Explanation, post } from "../api.ts";
import { replace, route } from "../state.ts";
import { Choice, Facts, Field, Loading, Wrong } from "../ui.tsx";

const ACTIONS: [string, string][] = [["subscribe", "subscribe"], ["publish", "publish"], ["history", "read history"], ["presence", "see presence"]];

export function Why(): JSX.Element {
  const given = route.value.query;
  const read = (name: string) => given.get(name) ?? "";
  const [answer, setAnswer] = useState<Explanation | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const [busy, setBusy] = useState(false);
  const claims = read("claims");
  const key = given.toString();
  const question = async () => {
    setBusy(true);
    try {
      const roles = read("roles").split(",").map((role) => role.trim()).filter((role) => role !== "");
      const who = claims === "" ? { user: read("user") } : { claims };
      const body = { ...who, roles, action: read("action") || "subscribe", channel: read("channel"), event_type: read("event_type") };
      setAnswer(await post<Explanation>("/api/v1/explain", JSON.stringify(body)));
      setError(null);
    } catch (failure) {
      setAnswer(null);
      setError(failure as Error);
    } finally {
      setBusy(false);
    }
  };
  useEffect(() => {
    if (read("channel") !== "") void question();
  }, [key]);
  const set = (name: string) => (value: string) => replace({ [name]: value });
  return (
    <>
      <form
        class="filters"
        aria-label="Question"
        onSubmit={(event) => {
          event.preventDefault();
          void question();
        }}
      >
        <Field label="User" value={read("user")} hint={claims === "" ? "Empty: anonymous" : "The claims say who it is"} onChange={set("user")} />
        <Field label="Roles" value={read("roles")} placeholder="editor, member" onChange={set("roles")} />
        <Field label="Or a token's claims" value={claims} placeholder='{"sub": "ann", "projects": ["42"]}' onChange={set("claims")} />
        <Choice label="Action" value={read("action") || "subscribe"} options={ACTIONS} onChange={set("action")} />
        <Field label="Channel" value={read("channel")} placeholder="project:42" onChange={set("channel")} />
        <Field label="Event type (optional)" value={read("event_type")} onChange={set("event_type")} />
        <button type="submit">Ask the rules</button>
      </form>
      {busy && <Loading />}
      {error !== null && <Wrong error={error} />}
      {answer !== null && (
        <section class={answer.allowed ? "answer yes" : "answer no"} aria-live="polite">
          <h2>{answer.allowed ? "Allowed" : "Refused"}</h2>
          <p>{answer.reason}</p>
          <Facts
            facts={[
              ["Decided by", answer.source],
              ["Rule", answer.rule === "" ? "no rule was asked" : <code>{answer.rule}</code>],
              ...Object.entries(answer.inputs).map(([name, value]): [string, JSX.Element] => [name, <code>{JSON.stringify(value)}</code>]),
            ]}
          />
        </section>
      )}
      <p class="hint">Nothing is done: the rules are asked as they hold now, with what is given here.</p>
    </>
  );
}
