const ws = new WebSocket('ws://localhost:5100/ws');

ws.onopen = () => {
  // Register as mobile client
  ws.send(JSON.stringify({
    type: 'register',
    client_type: 'mobile',
    client_name: 'Mobile Web'
  }));
  
  // Subscribe to relevant channels
  ws.send(JSON.stringify({
    type: 'subscribe',
    channels: ['jobs', 'photos', 'sessions']
  }));
};

ws.onmessage = (event) => {
  const message = JSON.parse(event.data);
  
  switch(message.type) {
    case 'photo_imported':
      addPhotoToGallery(message);
      break;
    case 'job_progress':
      updateProgressBar(message.job_id, message.progress);
      break;
    case 'session_updated':
      updateSessionCard(message.session_id, message.progress_percent);
      break;
  }
};
