// In the page: a client whose events are recorded for the test.
import { connect } from "/dist/index.js";
import { connectShared } from "/dist/shared.js";

globalThis.notes = { states: [], errors: [], offsets: [], how: [], stale: [], tokens: [] };

globalThis.start = ({ url, channel, shared = false, options = {}, subscribe = {} }) => {
  const token = async (why) => {
    notes.tokens.push(why.refused);
    const response = await fetch(`/token?n=${notes.tokens.length}`);
    return response.text();
  };
  const make = shared ? connectShared : connect;
  globalThis.client = make(url, { token, minDelayMs: 20, ...options });
  client.on("state", (state) => notes.states.push({ ...state, at: performance.now() }));
  client.on("error", (error) => notes.errors.push(error.message));
  const callbacks = { onSubscribed: (how) => notes.how.push(how), onStale: (why) => notes.stale.push(why) };
  globalThis.subscription = client.subscribe(channel, { ...subscribe, ...callbacks }, ({ offset }) => void notes.offsets.push(offset));
  return subscription.ready;
};

/** Blocks the page until the test releases it. */
globalThis.block = () => {
  const request = new XMLHttpRequest();
  request.open("GET", "/block", false);
  request.send();
};
