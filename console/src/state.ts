// What all pages share: the route, the server, messages to the operator.
import { computed, signal } from "@preact/signals";
import { get, type ServerInfo } from "./api.ts";

export interface Route {
  page: string;
  query: URLSearchParams;
}

function parse(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { page: path === "" ? "overview" : path, query: new URLSearchParams(query) };
}

export const route = signal<Route>(parse());
addEventListener("hashchange", () => {
  route.value = parse();
});

/** The address of a page with parameters; empty ones are left out. */
export function link(page: string, query: Record<string, string | undefined> = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") parameters.set(name, value);
  }
  const text = parameters.toString();
  return text === "" ? `#/${page}` : `#/${page}?${text}`;
}

export function go(page: string, query: Record<string, string | undefined> = {}): void {
  location.hash = link(page, query);
}

/** Changes parameters of the page without a new entry in the browser's history. */
export function replace(query: Record<string, string | undefined>): void {
  const all = Object.fromEntries(route.value.query);
  history.replaceState(null, "", link(route.value.page, { ...all, ...query }));
  route.value = parse();
}

export const server = signal<ServerInfo | null>(null);
export const serverError = signal<Error | null>(null);
export const isAdmin = computed(() => server.value?.caller.admin === true);

export async function loadServer(): Promise<void> {
  try {
    server.value = await get<ServerInfo>("/api/v1/server");
    serverError.value = null;
  } catch (error) {
    serverError.value = error as Error;
  }
}

export interface Toast {
  id: number;
  text: string;
  bad: boolean;
}

export const toasts = signal<Toast[]>([]);
let next = 0;

/** Tells the operator what an action did. */
export function tell(text: string, bad = false): void {
  next += 1;
  const id = next;
  toasts.value = [...toasts.value.slice(-3), { id, text, bad }];
  setTimeout(() => dismiss(id), bad ? 20_000 : 12_000);
}

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}

export interface Question {
  title: string;
  text: string;
  confirm: string;
  reason: boolean;
  answer: (reason: string | null) => void;
}

export const question = signal<Question | null>(null);

/** Asks once before an action. Answers the reason, or null where the operator does not want it. */
export function ask(title: string, text: string, confirm: string, reason = false): Promise<string | null> {
  return new Promise((resolve) => {
    const answer = (given: string | null) => {
      question.value = null;
      resolve(given);
    };
    question.value = { title, text, confirm, reason, answer };
  });
}
