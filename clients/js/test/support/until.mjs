/** Waits until a condition holds, and returns its value; `what` names it in the error. */
export async function until(condition, what, millis = 20_000) {
  const end = performance.now() + millis;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (performance.now() > end) throw new Error(`waited ${millis} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
