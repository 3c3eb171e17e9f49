/** Waits until a condition holds, and answers it; `what` says in the error what did not come. */
export async function until(condition, what, millis = 20_000) {
  const end = performance.now() + millis;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (performance.now() > end) throw new Error(`waited ${millis} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
