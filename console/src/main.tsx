import { signal } from "@preact/signals";
import { type ComponentType, type JSX, render } from "preact";
import { useEffect, useRef } from "preact/hooks";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { needsLogin, setToken, token } from "./api.ts";
import { Catalog } from "./pages/catalog.tsx";
import { Channels } from "./pages/channels.tsx";
import { Configuration } from "./pages/configuration.tsx";
import { Connections } from "./pages/connections.tsx";
import { Live } from "./pages/live.tsx";
import { Overview } from "./pages/overview.tsx";
import { Refusals } from "./pages/refusals.tsx";
import { Why } from "./pages/why.tsx";
import { go, link, loadServer, route, server, serverError } from "./state.ts";
import { Ask, Empty, Loading, Toasts, Wrong } from "./ui.tsx";

const PAGES: [string, string, ComponentType][] = [
  ["overview", "Overview", Overview],
  ["connections", "Connections", Connections],
  ["channels", "Channels", Channels],
  ["live", "Live", Live],
  ["why", "Why not?", Why],
  ["refusals", "Refusals", Refusals],
  ["catalog", "Catalog", Catalog],
  ["configuration", "Configuration", Configuration],
];

const THEME = "tidings.console.theme";
const theme = signal(localStorage.getItem(THEME) ?? "");

function useTheme(): void {
  useEffect(() => {
    if (theme.value === "") {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem(THEME);
    } else {
      document.documentElement.dataset.theme = theme.value;
      localStorage.setItem(THEME, theme.value);
    }
  }, [theme.value]);
}

function Login(): JSX.Element {
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  return (
    <main class="login">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const given = field.current?.value.trim() ?? "";
          if (given === "") return;
          setToken(given);
          needsLogin.value = null;
          void loadServer();
        }}
      >
        <h1>Tidings console</h1>
        <p>
          Log in with a token of role <code>admin</code>, or of role <code>viewer</code>, which sees the same and changes nothing:
        </p>
        <pre>tidings token --sub you --role viewer --ttl 8h</pre>
        <label class="field wide">
          Token
          <input ref={field} type="password" autocomplete="off" spellcheck={false} required />
        </label>
        {needsLogin.value !== null && needsLogin.value !== "" && (
          <p class="bad" role="alert">
            {needsLogin.value}
          </p>
        )}
        <button type="submit">Log in</button>
        <p class="hint">It stays in this tab until you close it, and goes nowhere but to this server.</p>
      </form>
    </main>
  );
}

function Shell(): JSX.Element {
  useTheme();
  const heading = useRef<HTMLHeadingElement>(null);
  const page = PAGES.find(([name]) => name === route.value.page);
  const title = page?.[1] ?? "Not found";
  useEffect(() => {
    document.title = `${title} · Tidings console`;
    scrollTo(0, 0);
  }, [title]);
  useEffect(() => {
    // `g` and the first letter of a page lead there, `/` to its filter.
    let armed = 0;
    const onKey = (event: KeyboardEvent) => {
      const element = event.target as HTMLElement;
      if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName)) return;
      if (event.key === "/") {
        event.preventDefault();
        document.querySelector<HTMLInputElement>(".filters input")?.focus();
      } else if (event.key === "g") {
        armed = Date.now();
      } else if (Date.now() - armed < 1500) {
        const keys: Record<string, string> = { o: "overview", c: "connections", h: "channels", l: "live", w: "why", r: "refusals", a: "catalog", s: "configuration" };
        const to = keys[event.key];
        armed = 0;
        if (to !== undefined) go(to);
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  if (needsLogin.value !== null) return <Login />;
  const info = server.value;
  if (info === null) {
    return <main class="login">{serverError.value === null ? <Loading /> : <Wrong error={serverError.value} retry={() => void loadServer()} />}</main>;
  }
  const Page = page?.[2];
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); heading.current?.focus(); }}>
        Skip to the content
      </a>
      <nav aria-label="Pages">
        <strong>Tidings</strong>
        <ul>
          {PAGES.map(([name, label]) => (
            <li key={name}>
              <a href={link(name)} aria-current={name === route.value.page ? "page" : undefined}>
                {label}
              </a>
            </li>
          ))}
        </ul>
      </nav>
      <div class="body">
        <header class="top">
          <h1 ref={heading} tabIndex={-1} id="main">
            {title}
          </h1>
          <span class="who">
            {info.node} · {info.caller.user ?? "you"} {info.caller.admin ? "(admin)" : "(viewer: changes nothing)"}
          </span>
          <select
            aria-label="Colours"
            value={theme.value}
            onChange={(event) => {
              theme.value = event.currentTarget.value;
            }}
          >
            <option value="">System</option>
            <option value="light">Light</option>
            <option value="dark">Dark</option>
          </select>
          {token.value !== null && (
            <button
              type="button"
              onClick={() => {
                setToken(null);
                server.value = null;
                void loadServer();
              }}
            >
              Log out
            </button>
          )}
        </header>
        {info.dev && <p class="notice">This server runs with --dev: it is open to everyone who reaches it. Do not put it on a network.</p>}
        <main>{Page === undefined ? <Empty>There is no such page.</Empty> : <Page />}</main>
      </div>
      <Ask />
      <Toasts />
    </>
  );
}

const place = document.getElementById("app");
if (place !== null) {
  render(<Shell />, place);
  void loadServer();
}
