const ws = new WebSocket('ws://localhost:8000/ws');

ws.onopen = function(event) {
    console.log('Connected to WebSocket');
    
    // Subscribe to specific events
    ws.send(JSON.stringify({
        type: 'subscribe',
        data: {
            event_types: ['processing_progress', 'system_error']
        }
    }));
};

ws.onmessage = function(event) {
    const message = JSON.parse(event.data);
    console.log('Received:', message.type, message.data);
    
    // Handle different event types
    switch(message.type) {
        case 'processing_progress':
            updateProgressBar(message.data.progress);
            break;
        case 'system_error':
            showErrorNotification(message.data.error);
            break;
    }
};
