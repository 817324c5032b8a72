"""The packages with which sites test their calls see the calls of a connection's session."""

from __future__ import annotations

import requests_mock
import responses

from tests.protocol.test_session import Opener, open_session

__all__ = ["open_session"]
URL = "https://api.acme.example/v1/user"


def test_responses_answers_a_call(open_session: Opener):
    with responses.RequestsMock() as mock:
        mock.get(URL, json={"login": "octocat"})
        session = open_session(api_base_url="https://api.acme.example/v1/")
        assert session.get("user").json() == {"login": "octocat"}
        assert mock.calls[0].request.headers["Authorization"] == "Bearer token-0"


def test_requests_mock_answers_a_call(open_session: Opener):
    with requests_mock.Mocker() as mock:
        mock.get(URL, json={"login": "octocat"})
        session = open_session(api_base_url="https://api.acme.example/v1/")
        assert session.get("user").json() == {"login": "octocat"}
        assert mock.last_request.headers["Authorization"] == "Bearer token-0"


def test_a_mocked_refusal_is_retried_with_a_newer_token(open_session: Opener):
    with responses.RequestsMock(registry=responses.registries.OrderedRegistry) as mock:
        mock.get(URL, status=401)
        mock.get(URL, json={"login": "octocat"})
        session = open_session(api_base_url="https://api.acme.example/v1/")
        assert session.get("user").json() == {"login": "octocat"}
        assert mock.calls[1].request.headers["Authorization"] == "Bearer token-1"
