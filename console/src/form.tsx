// A form from a JSON Schema, for the schemas that a form can say; JSON for the rest.
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { type EventType, get, post } from "./api.ts";
import { ask, isAdmin, tell } from "./state.ts";
import { Choice, Loading, usePolling, Wrong } from "./ui.tsx";

interface Schema {
  type?: string | string[];
  title?: string;
  description?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  enum?: unknown[];
  const?: unknown;
  minimum?: number;
  maximum?: number;
}

type Values = Record<string, unknown>;

const kindOf = (schema: Schema): string => (Array.isArray(schema.type) ? (schema.type.find((type) => type !== "null") ?? "") : (schema.type ?? ""));

/** One field for each property; what is no plain value is JSON. */
function Fields(props: { schema: Schema; values: Values; onChange: (values: Values) => void }): JSX.Element {
  const { schema, values } = props;
  const set = (name: string, value: unknown) => {
    const { [name]: _, ...rest } = values;
    props.onChange(value === undefined ? rest : { ...rest, [name]: value });
  };
  return (
    <fieldset class="form">
      <legend>Data</legend>
      {Object.entries(schema.properties ?? {}).map(([name, property]) => {
        const needed = schema.required?.includes(name) === true;
        const label = `${name}${needed ? " *" : ""}`;
        const value = values[name];
        const kind = kindOf(property);
        const hint = property.description === undefined ? null : <small>{property.description}</small>;
        if (property.enum !== undefined) {
          return (
            <label class="field" key={name}>
              {label}
              <select value={value === undefined ? "" : JSON.stringify(value)} onChange={(event) => set(name, event.currentTarget.value === "" ? undefined : JSON.parse(event.currentTarget.value))}>
                <option value="">–</option>
                {property.enum.map((one) => (
                  <option key={JSON.stringify(one)} value={JSON.stringify(one)}>
                    {String(one)}
                  </option>
                ))}
              </select>
              {hint}
            </label>
          );
        }
        if (kind === "boolean") {
          return (
            <label class="check" key={name}>
              <input type="checkbox" checked={value === true} onChange={(event) => set(name, event.currentTarget.checked)} />
              {label}
              {hint}
            </label>
          );
        }
        if (kind === "string" || kind === "integer" || kind === "number") {
          const numeric = kind !== "string";
          return (
            <label class="field" key={name}>
              {label}
              {numeric ? (
                <input
                  type="number"
                  step={kind === "integer" ? 1 : "any"}
                  min={property.minimum}
                  max={property.maximum}
                  value={value === undefined ? "" : String(value)}
                  onInput={(event) => {
                    const text = event.currentTarget.value;
                    set(name, text === "" ? undefined : Number(text));
                  }}
                />
              ) : (
                <input
                  value={value === undefined ? "" : String(value)}
                  onInput={(event) => {
                    const text = event.currentTarget.value;
                    set(name, text === "" ? undefined : text);
                  }}
                />
              )}
              {hint}
            </label>
          );
        }
        return <JsonField key={name} label={label} value={value} onChange={(given) => set(name, given)} />;
      })}
    </fieldset>
  );
}

function JsonField(props: { label: string; value: unknown; onChange: (value: unknown) => void }): JSX.Element {
  const [text, setText] = useState(props.value === undefined ? "" : JSON.stringify(props.value, null, 2));
  const [wrong, setWrong] = useState(false);
  return (
    <label class="field wide">
      {props.label} (JSON)
      <textarea
        rows={4}
        value={text}
        aria-invalid={wrong}
        spellcheck={false}
        onInput={(event) => {
          const given = event.currentTarget.value;
          setText(given);
          try {
            props.onChange(given.trim() === "" ? undefined : JSON.parse(given));
            setWrong(false);
          } catch {
            setWrong(true);
          }
        }}
      />
      {wrong && <small class="bad">This is not JSON yet.</small>}
    </label>
  );
}

/** Publishes an event. The catalog's types give the form and the example. */
export function PublishForm({ channel }: { channel: string }): JSX.Element | null {
  const [types, setTypes] = useState<EventType[] | null>(null);
  const [failed, setFailed] = useState<Error | null>(null);
  const [name, setName] = useState("");
  const [data, setData] = useState<unknown>({});
  const [plain, setPlain] = useState(false);
  const namespace = channel.split(":")[0] ?? "";
  usePolling(
    async (abort) => {
      if (types !== null) return;
      try {
        const answer = await get<{ event_types: EventType[] }>("/api/v1/catalog", { page_size: 1000 }, abort);
        setTypes(answer.event_types.filter((type) => ["", "*", namespace].includes(type.namespace)));
      } catch (error) {
        if (!abort.aborted) setFailed(error as Error);
      }
    },
    60_000,
    [channel],
  );
  const known = types?.find((type) => type.name === name);
  useEffect(() => {
    setData(known?.example ?? {});
  }, [known]);
  if (!isAdmin.value) return null;
  if (failed !== null) return <Wrong error={failed} />;
  if (types === null) return <Loading />;
  const schema = known?.schema as Schema | undefined;
  const formed = !plain && schema?.properties !== undefined && typeof data === "object" && data !== null;
  const publish = async () => {
    const sure = await ask("Publish?", `An event of type ${name} goes to everyone who follows ${channel}, and into its history where it keeps one.`, "Publish");
    if (sure === null) return;
    try {
      const body = JSON.stringify({ channels: [channel], type: name, data });
      const answer = await post<{ id: string; results: { subscribers: number; position?: string; offset?: number }[] }>("/api/v1/events", body);
      const result = answer.results[0];
      tell(`Published ${name} as ${answer.id}: ${result?.subscribers ?? 0} subscribers${result?.offset === undefined ? "" : `, offset ${result.offset}`}.`);
    } catch (error) {
      tell((error as Error).message, true);
    }
  };
  return (
    <form
      class="publish"
      onSubmit={(event) => {
        event.preventDefault();
        void publish();
      }}
    >
      <h3>Publish</h3>
      {types.length > 0 && (
        <Choice label="From the catalog" value={known === undefined ? "" : name} options={[["", "another type"], ...types.map((type): [string, string] => [type.name, type.name])]} onChange={setName} />
      )}
      <label class="field">
        Event type
        <input required value={name} maxLength={128} onInput={(event) => setName(event.currentTarget.value)} />
        {known !== undefined && known.description !== "" && <small>{known.description}</small>}
      </label>
      {schema?.properties !== undefined && (
        <label class="check">
          <input type="checkbox" checked={plain} onChange={(event) => setPlain(event.currentTarget.checked)} />
          Write the data as JSON
        </label>
      )}
      {formed ? (
        <Fields schema={schema} values={data as Values} onChange={setData} />
      ) : (
        <JsonField key={name} label="Data" value={data} onChange={(given) => setData(given ?? null)} />
      )}
      <button type="submit">Publish</button>
    </form>
  );
}
