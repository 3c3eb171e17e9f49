/** Listeners by the name of what they hear. */
export class Emitter<Events> {
  readonly #listeners = new Map<keyof Events, Set<(value: any) => void>>();

  /** Adds a listener; the answer takes it away. */
  on<Name extends keyof Events>(name: Name, listener: (value: Events[Name]) => void): () => void {
    let listeners = this.#listeners.get(name);
    if (!listeners) this.#listeners.set(name, (listeners = new Set()));
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  /** Tells the listeners; false if there are none. One that throws does not keep it from the others. */
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
