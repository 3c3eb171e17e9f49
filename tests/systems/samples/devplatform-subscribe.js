socket.emit("subscribe", { room: "project:123" });

socket.on("project.updated", (event) => {
  console.log("Project updated:", event.data);
});
