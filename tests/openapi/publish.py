"""Publishes through the clients that openapi-python-client and openapi-generator generated."""

import os

import openapi_client
from tidings_api import AuthenticatedClient
from tidings_api.api.channels import get_history
from tidings_api.api.connections import get_stats
from tidings_api.api.events import publish, publish_cloud_event
from tidings_api.models import Audience, CloudEvent, PublishRequest

URL, TOKEN = os.environ["TIDINGS_URL"], os.environ["TIDINGS_TOKEN"]


def openapi_python_client() -> None:
    client = AuthenticatedClient(base_url=URL, token=TOKEN, raise_on_unexpected_status=True)
    request = PublishRequest(type_="openapi.tried", channels=["project:py"], data={"from": "py"})
    published = publish.sync(client=client, body=request)
    event = CloudEvent(
        specversion="1.0", id="py-1", source="/py", type_="openapi.tried", channel="project:py",
        data={"from": "py"},
    )
    second = publish_cloud_event.sync(client=client, body=event)
    history = get_history.sync("project:py", client=client)
    assert [entry.id for entry in history.events] == [published.id, second.id], history
    direct = PublishRequest(type_="openapi.tried", data=1, audience=Audience(users=["ann"]))
    assert publish.sync(client=client, body=direct).results[0].channel is None
    assert get_stats.sync(client=client).events.published >= 3
    print("openapi-python-client:", published.id)


def openapi_generator() -> None:
    configuration = openapi_client.Configuration(host=URL, access_token=TOKEN)
    with openapi_client.ApiClient(configuration) as client:
        events = openapi_client.EventsApi(client)
        published = events.publish(
            openapi_client.PublishRequest(
                type="openapi.tried", channels=["project:pygen"], data={"from": "py"},
                time="2026-02-28T10:00:00Z", key="a",
            )
        )
        history = openapi_client.ChannelsApi(client).get_history("project:pygen")
        assert [entry.id for entry in history.events] == [published.id], history
        assert openapi_client.ConnectionsApi(client).get_stats().events.published >= 1
    print("openapi-generator, python:", published.id)


openapi_python_client()
openapi_generator()
