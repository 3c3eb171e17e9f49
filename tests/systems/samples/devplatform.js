const socket = io("http://localhost:8000/ws", {
  auth: { token: "your-jwt-token" }
});

socket.on("connection_established", (event) => {
  console.log("Connected!");
});
