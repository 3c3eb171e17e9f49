import type { WebSocketLike } from "./types.js";

/** Messages from a tab to the shared worker; `socket` numbers the tab's sockets. */
export type ToWorker =
  | { open: number; url: string; options: WorkerOptions; lock?: string }
  | { text: string; socket: number }
  | { close: number }
  | { answer: number; token?: string | null; failed?: string };

/** Messages from the worker to a tab. */
export type ToTab =
  /** The worker runs. */
  | { hello: true }
  | { text: string; socket: number }
  | { closed: number; code: number; reason: string }
  | { ask: number; refused: boolean };

/** Options for the worker. Those of the first tab apply. */
export interface WorkerOptions {
  clientType?: string;
  clientName?: string;
  queueLimit?: number;
  requestTimeoutMs?: number;
  minDelayMs?: number;
  maxDelayMs?: number;
  connectTimeoutMs?: number;
  transports?: readonly ("websocket" | "sse")[];
  /** Whether this tab can provide a token. */
  hasToken: boolean;
}

/** A socket to the shared worker in place of one to the server. */
export class PortSocket implements WebSocketLike {
  onopen: WebSocketLike["onopen"] = null;
  onmessage: WebSocketLike["onmessage"] = null;
  onclose: WebSocketLike["onclose"] = null;
  onerror: WebSocketLike["onerror"] = null;

  constructor(
    readonly number: number,
    readonly post: (message: ToWorker) => void,
  ) {}

  send(text: string): void {
    this.post({ text, socket: this.number });
  }

  close(): void {
    this.post({ close: this.number });
  }
}
