/** Close codes that mean: don't come back by yourself. */
const FINAL = new Set([4403, 4410]);

/** Least pauses in milliseconds where coming back at once would make it worse. */
const LEAST: Record<number, number> = { 1001: 500, 1013: 1000, 4429: 5000 };

/** A connection that stood this many milliseconds was a good one: pauses begin small again. */
export const GOOD_MS = 10_000;

/** Whether the server has ended the connection for good. */
export function isFinal(code: number): boolean {
  return FINAL.has(code);
}

/**
 * How long to wait before connecting again, in milliseconds: what the server advised, or a random
 * part of a time that doubles with each attempt in a row (full jitter).
 */
export function pause(
  code: number,
  attempt: number,
  advised: number | undefined,
  limits: { min: number; max: number },
): number {
  // Each client is advised a time of its own.
  if (advised !== undefined && code !== 4429 && code !== 1013) return advised;
  // The first new token is tried at once; one that is refused as well waits like everything else.
  if (code === 4401 && attempt === 0) return 0;
  const least = Math.max(LEAST[code] ?? 0, advised ?? 0);
  return least + Math.random() * Math.min(limits.max, limits.min * 2 ** Math.min(attempt, 30));
}
