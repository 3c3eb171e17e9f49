// The write-up of this system shows no client. This one does what it describes: it connects at
// /socket.io, subscribes to a session, and shows what it hears of it.
const socket = io("http://localhost:8000");

socket.on("connected", () => {
  socket.emit("subscribe_session", { session_id: "session-1" });
});

socket.on("subscribed", (event) => {
  console.log("Subscribed to session:", event.session_id);
});

socket.on("session_started", (event) => {
  console.log("Session started:", event.session_id);
});

socket.on("session_progress", (event) => {
  updateProgress(event.session_id, event.progress, event.estimated_remaining_seconds);
});

socket.on("session_completed", (event) => {
  showResults(event.session_id, event.results);
});

socket.on("session_failed", (event) => {
  showError(event.session_id, event.error_message);
});

socket.on("session_cancelled", (event) => {
  console.log("Session cancelled:", event.session_id);
});

socket.on("notification", (event) => {
  showNotification(event.notification_type, event.title, event.message);
});

socket.on("alert", (event) => {
  showAlert(event.severity, event.title);
});

socket.on("system_status", (event) => {
  showStatus(event.status);
});

socket.on("error", (event) => {
  console.error("Error:", event.message);
});

socket.on("pong", () => {
  console.log("The server is there");
});

// Ask every 25 seconds whether the server is there
setInterval(() => {
  socket.emit("ping");
}, 25000);
