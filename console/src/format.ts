// Numbers, sizes and times as people read them.
const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (n: number): string => (Math.abs(n) < 100_000 ? whole.format(Math.round(n)) : short.format(n));

export function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = n;
  let at = 0;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${value >= 100 || at === 0 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
}

export function rate(n: number): string {
  if (n === 0) return "0/s";
  return n < 10 ? `${n.toFixed(n < 1 ? 2 : 1)}/s` : `${count(n)}/s`;
}

export function millis(n: number): string {
  if (n === 0) return "–";
  if (n < 1) return `${Math.round(n * 1000)} µs`;
  return n < 1000 ? `${n < 10 ? n.toFixed(1) : Math.round(n)} ms` : `${(n / 1000).toFixed(1)} s`;
}

export function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

export const ago = (time: string | null): string => (time === null ? "–" : `${span(Date.now() - Date.parse(time))} ago`);
export const age = (time: string): string => span(Date.now() - Date.parse(time));

export function clock(time: string): string {
  const at = new Date(time);
  return Number.isNaN(at.getTime()) ? time : at.toLocaleTimeString("en-GB") + `.${String(at.getMilliseconds()).padStart(3, "0")}`;
}
