// The page around a sample client: the functions that the sample calls write down what they were
// called with, as do the console and setInterval, whose timers a test lets go off itself.
const calls = [];
const timers = [];
const heard = [];

const shown = [
  "updateProgressBar", "showErrorNotification", "addPhotoToGallery", "updateSessionCard", "updateProgress",
  "showResults", "showError", "showNotification", "showAlert", "showStatus",
];
for (const name of shown) globalThis[name] = (...args) => calls.push([name, ...args]);
for (const name of ["log", "error"]) console[name] = (...args) => calls.push([`console.${name}`, ...args]);
globalThis.setInterval = (callback, ms) => timers.push({ callback, ms });

/** Beside the sample, hears everything on its connection, whatever the sample makes of it. */
function listen(connection) {
  if (connection instanceof WebSocket) {
    connection.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      heard.push({ name: message.type, message });
    });
    connection.addEventListener("close", ({ code }) => calls.push(["closed", code]));
  } else {
    connection.onAny((name, message) => heard.push({ name, message }));
    connection.on("connect_error", ({ message, data }) => calls.push(["refused", message, data?.code]));
  }
}
