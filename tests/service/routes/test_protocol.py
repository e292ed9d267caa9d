"""The document of the streaming protocol, as it is served."""

import json

from fastapi.testclient import TestClient

from amodal_service.asyncapi import asyncapi_document
from amodal_service.handshakes import SOCKET_PATH


def test_the_document_names_the_server_and_the_socket(client: TestClient) -> None:
    answer = client.get("/v1/asyncapi.json")
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert document == json.loads(json.dumps(asyncapi_document("testserver", "ws")))
    assert document["channels"]["stream"]["address"] == SOCKET_PATH


def test_a_secure_server_has_secure_sockets(client: TestClient) -> None:
    document = client.get("https://testserver/v1/asyncapi.json").json()
    assert document["servers"]["this"]["protocol"] == "wss"
