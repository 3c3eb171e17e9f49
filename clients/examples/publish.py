"""Publishes one event to a Tidings server and prints its id and its place in the channel.

Install the stubs first (see README.md beside this file), then:

    python publish.py [--channel project:42] [--type project.updated] ['{"any": "json"}']

Environment: TIDINGS_SERVER (default 127.0.0.1:50051) and TIDINGS_TOKEN.
"""

import argparse
import json
import os
import sys
import uuid

import grpc

from tidings.v1 import event_service_pb2, event_service_pb2_grpc


def main() -> int:
    arguments = argparse.ArgumentParser(description="Publishes one event.")
    arguments.add_argument("--server", default=os.environ.get("TIDINGS_SERVER", "127.0.0.1:50051"))
    arguments.add_argument("--channel", default="global")
    arguments.add_argument("--type", default="greeting")
    arguments.add_argument("data", nargs="?", default='{"text": "hello"}', help="JSON")
    given = arguments.parse_args()

    request = event_service_pb2.PublishRequest(
        channels=[given.channel],
        type=given.type,
        data=given.data.encode(),
        # Makes the call safe to repeat: within five minutes a repeat gets the first one's answer.
        idempotency_key=str(uuid.uuid4()),
    )
    metadata = []
    if token := os.environ.get("TIDINGS_TOKEN"):
        metadata.append(("authorization", f"Bearer {token}"))

    server = given.server.removeprefix("http://")
    with grpc.insecure_channel(server) as channel:
        events = event_service_pb2_grpc.EventServiceStub(channel)
        try:
            published = events.Publish(request, metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            return 1

    answer = {"id": published.id}
    for result in published.results:
        answer["channel"] = result.channel
        answer["subscribers"] = result.subscribers
        if result.HasField("position"):
            answer["position"] = f"{result.position.epoch}/{result.position.offset}"
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
