// An Express application that keeps a list of who is online from Tidings' webhooks.
//
//   WEBHOOK_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw node server.js
//
// README.md has the configuration of Tidings.
// GET /online then lists the open connections, the occupied channels and the users in each.

const { createHmac, timingSafeEqual } = require("node:crypto");
const express = require("express");

const secret = process.env.WEBHOOK_SECRET;
if (!secret?.startsWith("whsec_")) throw new Error("set WEBHOOK_SECRET, as in [[webhook]]");
const key = Buffer.from(secret.slice("whsec_".length), "base64");

/** Whether a request is from Tidings and not older than five minutes (Standard Webhooks). */
function isGenuine(headers, body) {
  // Express reads no body without a content type.
  if (!Buffer.isBuffer(body)) return false;
  const id = headers["webhook-id"];
  const timestamp = headers["webhook-timestamp"];
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= 300)) return false;
  const expected = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
  return String(headers["webhook-signature"]).split(" ").some((part) => {
    const [version, signature] = part.split(",");
    const given = Buffer.from(signature ?? "", "base64");
    return version === "v1" && given.length === expected.length && timingSafeEqual(given, expected);
  });
}

const connections = new Map();
const channels = new Set();
const users = new Map();
/** The newest ids: an event may come twice. A Map keeps the order of insertion. */
const seen = new Map();

function isRepeated(id) {
  if (seen.has(id)) return true;
  seen.set(id, true);
  if (seen.size > 100_000) seen.delete(seen.keys().next().value);
  return false;
}

/** What each event changes. Events of one channel or connection come in their order. */
const handlers = {
  "connection.opened": (data) => connections.set(data.connection_id, data.user),
  "connection.closed": (data) => connections.delete(data.connection_id),
  "channel.occupied": (data) => channels.add(data.channel),
  "channel.vacated": (data) => channels.delete(data.channel),
  "presence.joined": (data) => {
    if (!users.has(data.channel)) users.set(data.channel, new Set());
    users.get(data.channel).add(data.user);
  },
  "presence.left": (data) => {
    users.get(data.channel)?.delete(data.user);
    if (users.get(data.channel)?.size === 0) users.delete(data.channel);
  },
  "webhook.dropped": (data) => console.warn(`${data.count} events were dropped: load the present state`),
};

const app = express();

// The signature is over the bytes as received, so the body must not be parsed before.
app.post("/tidings", express.raw({ type: "*/*", limit: "1mb" }), (request, response) => {
  if (!isGenuine(request.headers, request.body)) return response.sendStatus(401);
  for (const event of JSON.parse(request.body)) {
    if (!isRepeated(event.id)) handlers[event.type]?.(event.data);
  }
  response.sendStatus(204);
});

app.get("/online", (_request, response) => {
  const present = [...users].map(([channel, names]) => [channel, [...names].sort()]);
  response.json({
    connections: Object.fromEntries(connections),
    channels: [...channels].sort(),
    users: Object.fromEntries(present),
  });
});

const server = app.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
