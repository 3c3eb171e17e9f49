/** Waits until a condition holds, and fails with its name where it does not come true in time. */
export async function until(what, condition, seconds = 20) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited ${seconds} s until ${what}`);
    await new Promise((next) => setTimeout(next, 10));
  }
}
