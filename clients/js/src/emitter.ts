/** Listeners by event name. */
export class Emitter<Events> {
  readonly #listeners = new Map<keyof Events, Set<(value: any) => void>>();

  /** Adds a listener; the returned function removes it. */
  on<Name extends keyof Events>(name: Name, listener: (value: Events[Name]) => void): () => void {
    let listeners = this.#listeners.get(name);
    if (!listeners) this.#listeners.set(name, (listeners = new Set()));
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  /** Calls the listeners; false if there are none. One that throws does not affect the others. */
  emit<Name extends keyof Events>(name: Name, value: Events[Name]): boolean {
    const listeners = [...(this.#listeners.get(name) ?? [])];
    for (const listener of listeners) {
      try {
        listener(value);
      } catch (thrown) {
        console.error(thrown);
      }
    }
    return listeners.length > 0;
  }
}
