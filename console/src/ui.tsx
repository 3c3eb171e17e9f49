// The parts that pages are made of.
import { signal } from "@preact/signals";
import { Virtualizer, elementScroll, observeElementOffset, observeElementRect } from "@tanstack/virtual-core";
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useLayoutEffect, useReducer, useRef, useState } from "preact/hooks";
import { Failure } from "./api.ts";
import { dismiss, question, tell, toasts } from "./state.ts";

export function Loading(): JSX.Element {
  return (
    <p class="state" role="status">
      Loading…
    </p>
  );
}

export function Empty({ children }: { children: ComponentChildren }): JSX.Element {
  return <p class="state">{children}</p>;
}

export function Wrong({ error, retry }: { error: Error; retry?: () => void }): JSX.Element {
  const code = error instanceof Failure && error.status > 0 ? ` (${error.status}, ${error.code})` : "";
  return (
    <div class="state wrong" role="alert">
      <p>
        {error.message}
        {code}
      </p>
      {retry !== undefined && (
        <button type="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** Calls now, and again while the page is visible. */
export function usePolling(work: (abort: AbortSignal) => Promise<void>, ms: number, inputs: unknown[]): void {
  useEffect(() => {
    const abort = new AbortController();
    let timer = 0;
    const run = async () => {
      if (!document.hidden) await work(abort.signal).catch(() => undefined);
      if (!abort.signal.aborted) timer = setTimeout(run, ms);
    };
    void run();
    const onVisible = () => {
      if (!document.hidden) {
        clearTimeout(timer);
        void run();
      }
    };
    document.addEventListener("visibilitychange", onVisible);
    return () => {
      abort.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onVisible);
    };
  }, inputs);
}

export interface Column<T> {
  name: string;
  /** What the server can order by. */
  order?: string;
  width: string;
  numeric?: boolean;
  cell: (row: T) => ComponentChildren;
}

interface TableProps<T> {
  label: string;
  columns: Column<T>[];
  rows: T[];
  keyOf: (row: T) => string;
  onOpen?: (row: T) => void;
  selected?: string;
  order?: { by: string; desc: boolean };
  onOrder?: (by: string, desc: boolean) => void;
  onEnd?: () => void;
  height?: string;
}

const ROW = 36;

/** A table of any length: only the rows in sight are in the document. */
export function Table<T>(props: TableProps<T>): JSX.Element {
  const { columns, rows, keyOf, onOpen, order } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const [focused, setFocused] = useState(-1);
  const [virtual] = useState(
    () =>
      new Virtualizer<HTMLDivElement, HTMLDivElement>({
        count: rows.length,
        getScrollElement: () => scroller.current,
        estimateSize: () => ROW,
        overscan: 8,
        observeElementRect,
        observeElementOffset,
        scrollToFn: elementScroll,
        onChange: () => redraw(undefined as never),
      }),
  );
  virtual.setOptions({ ...virtual.options, count: rows.length });
  useLayoutEffect(() => virtual._didMount(), []);
  useLayoutEffect(() => virtual._willUpdate());
  const items = virtual.getVirtualItems();
  const last = items.at(-1)?.index ?? -1;
  useEffect(() => {
    if (rows.length > 0 && last >= rows.length - 10) props.onEnd?.();
  }, [last, rows.length]);

  const template = columns.map((column) => column.width).join(" ");
  const onKeyDown = (event: KeyboardEvent) => {
    const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 };
    const step = steps[event.key];
    if (step !== undefined) {
      event.preventDefault();
      const to = Math.min(rows.length - 1, Math.max(0, focused + step));
      setFocused(to);
      virtual.scrollToIndex(to);
    } else if ((event.key === "Enter" || event.key === " ") && onOpen !== undefined) {
      const row = rows[focused];
      if (row !== undefined) {
        event.preventDefault();
        onOpen(row);
      }
    }
  };
  return (
    <div class="table" role="table" aria-label={props.label} aria-rowcount={rows.length + 1}>
      <div
        class="rows"
        ref={scroller}
        style={{ maxHeight: props.height ?? "60vh" }}
        // A scrolling region must be reachable by keyboard.
        tabIndex={0}
        onKeyDown={onKeyDown}
        role="rowgroup"
      >
        <div class="row head" role="row" style={{ gridTemplateColumns: template }}>
          {columns.map((column) => {
            const sorted = order !== undefined && column.order !== undefined && order.by === column.order;
            const state = sorted ? (order.desc ? "descending" : "ascending") : "none";
            return (
              <div
                key={column.name}
                role="columnheader"
                class={column.numeric ? "num" : ""}
                aria-sort={column.order === undefined ? undefined : state}
              >
                {column.order === undefined || props.onOrder === undefined ? (
                  column.name
                ) : (
                  <button
                    type="button"
                    class="sort"
                    onClick={() => props.onOrder?.(column.order ?? "", sorted ? !order.desc : true)}
                  >
                    {column.name}
                    <span aria-hidden="true">{sorted ? (order.desc ? " ↓" : " ↑") : ""}</span>
                  </button>
                )}
              </div>
            );
          })}
        </div>
        <div class="space" style={{ height: `${virtual.getTotalSize()}px` }} role="presentation">
          {items.map((item) => {
            const row = rows[item.index];
            if (row === undefined) return null;
            const key = keyOf(row);
            const marks = [
              "row",
              onOpen === undefined ? "" : "opens",
              key === props.selected ? "selected" : "",
              item.index === focused ? "focused" : "",
            ];
            return (
              <div
                key={key}
                class={marks.join(" ")}
                role="row"
                aria-rowindex={item.index + 2}
                aria-selected={key === props.selected}
                style={{ gridTemplateColumns: template, transform: `translateY(${item.start}px)` }}
                onClick={() => {
                  setFocused(item.index);
                  onOpen?.(row);
                }}
              >
                {columns.map((column) => (
                  <div key={column.name} role="cell" class={column.numeric ? "num" : ""}>
                    {column.cell(row)}
                  </div>
                ))}
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}

/** Names with their values. */
export function Facts({ facts }: { facts: [string, ComponentChildren][] }): JSX.Element {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value === "" || value === null || value === undefined ? "–" : value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** A text that can be copied. */
export function Copy({ text, label }: { text: string; label: string }): JSX.Element {
  const copy = () => {
    navigator.clipboard.writeText(text).then(
      () => tell(`Copied: ${label}`),
      () => tell("The browser does not allow copying here.", true),
    );
  };
  return (
    <button type="button" class="quiet" onClick={copy} aria-label={`Copy ${label}`}>
      Copy
    </button>
  );
}

/** A panel beside or over a list. */
export function Panel(props: { title: string; onClose: () => void; children: ComponentChildren }): JSX.Element {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), [props.title]);
  return (
    <section
      class="panel"
      aria-label={props.title}
      onKeyDown={(event) => {
        if (event.key === "Escape") props.onClose();
      }}
    >
      <header>
        <h2 ref={heading} tabIndex={-1}>
          {props.title}
        </h2>
        <button type="button" class="quiet" onClick={props.onClose} aria-label="Close details">
          Close
        </button>
      </header>
      {props.children}
    </section>
  );
}

const reason = signal("");

/** The question before an action. */
export function Ask(): JSX.Element | null {
  const dialog = useRef<HTMLDialogElement>(null);
  const asked = question.value;
  useLayoutEffect(() => {
    reason.value = "";
    if (asked !== null) dialog.current?.showModal();
  }, [asked]);
  if (asked === null) return null;
  return (
    <dialog ref={dialog} aria-labelledby="ask-title" onCancel={() => asked.answer(null)}>
      <form
        method="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          asked.answer(reason.value);
        }}
      >
        <h2 id="ask-title">{asked.title}</h2>
        <p>{asked.text}</p>
        {asked.reason && (
          <label>
            Reason for the client (optional)
            <input
              maxLength={123}
              value={reason.value}
              onInput={(event) => {
                reason.value = event.currentTarget.value;
              }}
            />
          </label>
        )}
        <div class="actions">
          <button type="button" onClick={() => asked.answer(null)}>
            Cancel
          </button>
          <button type="submit" class="danger">
            {asked.confirm}
          </button>
        </div>
      </form>
    </dialog>
  );
}

/** What actions did. */
export function Toasts(): JSX.Element {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map((toast) => (
        <div key={toast.id} class={toast.bad ? "toast wrong" : "toast"}>
          <span>{toast.text}</span>
          <button type="button" class="quiet" aria-label="Dismiss" onClick={() => dismiss(toast.id)}>
            ×
          </button>
        </div>
      ))}
    </div>
  );
}

/** A text field that reports its value once typing pauses. */
export function Field(props: {
  label: string;
  value: string;
  onChange: (value: string) => void;
  placeholder?: string;
  hint?: string;
}): JSX.Element {
  const [text, setText] = useState(props.value);
  const timer = useRef(0);
  useEffect(() => setText(props.value), [props.value]);
  return (
    <label class="field">
      {props.label}
      <input
        value={text}
        placeholder={props.placeholder}
        autocomplete="off"
        spellcheck={false}
        onInput={(event) => {
          const value = event.currentTarget.value;
          setText(value);
          clearTimeout(timer.current);
          timer.current = setTimeout(() => props.onChange(value.trim()), 250);
        }}
      />
      {props.hint !== undefined && <small>{props.hint}</small>}
    </label>
  );
}

export function Choice(props: {
  label: string;
  value: string;
  options: [string, string][];
  onChange: (value: string) => void;
}): JSX.Element {
  return (
    <label class="field">
      {props.label}
      <select value={props.value} onChange={(event) => props.onChange(event.currentTarget.value)}>
        {props.options.map(([value, name]) => (
          <option key={value} value={value}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

export function Json({ value }: { value: unknown }): JSX.Element {
  return <pre class="json">{typeof value === "string" ? value : JSON.stringify(value, null, 2)}</pre>;
}
