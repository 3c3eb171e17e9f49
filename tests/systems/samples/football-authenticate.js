// Authenticate after connection
ws.onopen = function(event) {
    ws.send(JSON.stringify({
        type: 'authenticate',
        data: {
            token: 'your-jwt-token-here'
        }
    }));
};
