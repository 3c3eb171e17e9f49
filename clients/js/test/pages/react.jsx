import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { connect } from "@tidings/client";
import { TidingsProvider, useChannel, useConnectionState, useEvents, useTidings } from "@tidings/client/react";

const { url, token } = Object.fromEntries(new URLSearchParams(location.search));
const client = connect(url, { token, minDelayMs: 20 });

function Room({ channel }) {
  const events = useEvents(channel, { limit: 3 });
  const [stale, setStale] = useState(0);
  const { status, recovered } = useChannel(channel, { onStale: () => setStale((n) => n + 1) }, () => {});
  return (
    <div>
      <p id="status">{`${status} ${recovered ?? "new"} stale ${stale}`}</p>
      <ul id="events">{events.map(({ id, data }) => <li key={id}>{data.n}</li>)}</ul>
    </div>
  );
}

function Page() {
  const state = useConnectionState();
  const tidings = useTidings();
  const [channel, setChannel] = useState("room:react1");
  return (
    <main>
      <p id="state">{state}</p>
      <Room channel={channel} />
      <button id="other" onClick={() => setChannel("room:react2")}>other</button>
      <button id="publish" onClick={() => tidings.publish(channel, "count", { n: 100 })}>publish</button>
    </main>
  );
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <TidingsProvider client={client}>
      <Page />
    </TidingsProvider>
  </StrictMode>,
);
