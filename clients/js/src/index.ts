export { Client, connect } from "./client.js";
export { type Code, TidingsError } from "./errors.js";
export type * from "./types.js";
