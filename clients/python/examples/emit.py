"""What a Celery task or a Django view does: publishes without waiting, in the way of python-socketio.

Environment: TIDINGS_SERVER (127.0.0.1:50051) and TIDINGS_TOKEN.
"""

from tidings import compat
from tidings.compat.socketio import Emitter

sio = Emitter()

for progress in (25, 50, 75, 100):
    sio.emit("job_progress", {"job_id": "job-7", "progress": progress}, room="project:42")

# At exit, what is still queued is sent. A worker that is killed should call `flush` before.
compat.client().flush(30)
print(compat.client().background_stats.published, "events published")
