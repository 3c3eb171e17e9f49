/** Close codes after which the client does not reconnect by itself. */
const FINAL = new Set([4403, 4410]);

/** Minimum reconnect delays in milliseconds, for codes where an immediate reconnect would do harm. */
const LEAST: Record<number, number> = { 1001: 500, 1013: 1000, 4429: 5000 };

/** After a connection that was open for this many milliseconds, delays start small again. */
export const GOOD_MS = 10_000;

/** Whether the server has closed the connection permanently. */
export function isFinal(code: number): boolean {
  return FINAL.has(code);
}

/**
 * The delay before the next connection attempt, in milliseconds: the server's advice, or a random
 * part of a time that doubles with each attempt in a row (full jitter).
 */
export function pause(
  code: number,
  attempt: number,
  advised: number | undefined,
  limits: { min: number; max: number },
): number {
  // Each client gets a delay of its own.
  if (advised !== undefined && code !== 4429 && code !== 1013) return advised;
  // The first new token is tried at once; if it is refused as well, the usual delay applies.
  if (code === 4401 && attempt === 0) return 0;
  const least = Math.max(LEAST[code] ?? 0, advised ?? 0);
  return least + Math.random() * Math.min(limits.max, limits.min * 2 ** Math.min(attempt, 30));
}
