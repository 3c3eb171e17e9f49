export { connectionStore, type EventsValue, eventsStore, presenceStore, type Readable } from "./stores.js";
