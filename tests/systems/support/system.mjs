// What the tests of all five systems share: a server with the preset, a browser that finds it where
// the sample looks for it, and a publisher that speaks gRPC.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, afterEach, before, describe } from "node:test";
import { promisify } from "node:util";
import { binary, startPreset, token } from "../../socketio/support/server.mjs";
import { launch, Page, startSite } from "./browser.mjs";

const run = promisify(execFile);

/** Describes a system: its preset, where its clients find it, and the name of their connection. */
export function system({ preset, address, connection }, tests) {
  describe(`the preset ${preset}`, () => {
    const at = {};
    const pages = [];

    before(async () => {
      at.site = await startSite();
      at.server = await startPreset(preset, { TIDINGS_PUBLIC__ALLOWED_ORIGINS: JSON.stringify([at.site.origin]) });
      at.browser = await launch(address, at.server);
    });
    after(async () => {
      await at.browser?.close();
      await at.server?.close();
      at.site?.close();
    });
    afterEach(async () => {
      for (const page of pages.splice(0)) await page.tab.close();
    });

    /** A page with one sample or several. */
    at.open = async (samples, { token, origin = at.site.origin } = {}) => {
      const page = await Page.open(at.browser, origin, [samples].flat(), connection, token);
      pages.push(page);
      return page;
    };

    /** Publishes over gRPC, as the command line does it. */
    at.publish = async (channel, type, data, ...options) => {
      const env = {
        ...process.env,
        TIDINGS_SERVER: at.server.internal,
        TIDINGS_TOKEN: token("backend", { roles: ["service"] }),
      };
      await run(binary, ["publish", ...options, channel, type, JSON.stringify(data)], { env });
    };

    /** That a publish over gRPC is refused, and says this. */
    at.refuses = async (channel, type, data, words) => {
      await assert.rejects(at.publish(channel, type, data), ({ stderr }) => words.test(stderr) || assert.fail(stderr));
    };

    /** Calls an HTTP path as an operator. */
    at.http = async (method, path, body, roles = ["admin"]) => {
      const response = await fetch(at.server.url + path, {
        method,
        headers: { authorization: `Bearer ${token("operator", { roles })}`, "content-type": "application/json" },
        body: body && JSON.stringify(body),
      });
      return { status: response.status, body: await response.json() };
    };

    /** The event types that can be published, each with its home and its example. */
    at.types = async () => {
      const own = new Set(at.server.control);
      const { event_types: types } = await at.server.api("GET", "/catalog");
      return types.filter(({ name }) => !own.has(name));
    };

    tests(at);
  });
}
