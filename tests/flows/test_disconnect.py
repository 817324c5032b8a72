from __future__ import annotations

import threading
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.core.management import call_command
from django.utils import timezone

from oauth_connect import signals
from oauth_connect.errors import ReauthorizationRequired
from oauth_connect.flows import disconnect
from oauth_connect.jobs.revoke import revoke_due
from oauth_connect.models import Connection, Owner, PendingRevocation
from oauth_connect.protocol.token import Token
from tests.management.conftest import OTHER_KEY
from tests.servers.scripted import Answer
from tests.support.threads import meanwhile
from tests.support.visitor import Visitor, answer_of_codeyard

DOCS = Path(__file__).resolve().parents[2] / "docs"
pytestmark = pytest.mark.django_db(transaction=True)


def test_a_disconnected_account_is_revoked_at_the_provider_and_forgotten_here(codeyard, user):
    visitor = Visitor(user)
    visitor.come_back("codeyard", **answer_of_codeyard(visitor.start("codeyard")))
    http = Connection.objects.get().session()
    assert http.get("user").status_code == 200

    disconnect(Owner.of(user), Connection.objects.get().pk)

    row = Connection.objects.get()
    assert (row.status, row.sealed_token, row.version) == ("revoked", None, 1)
    assert codeyard.stats["revocations"] == 1
    with pytest.raises(ReauthorizationRequired):
        http.get("user")
    assert not PendingRevocation.objects.exists()


@pytest.mark.compliance("D17")
@pytest.mark.parametrize("whose", ["another's", "nobody's", "disconnected"])
def test_only_an_owner_s_living_connection_can_be_disconnected(
    whose, user, scripted, scripted_provider, make_connection
):
    connection = make_connection()
    owner, pk = Owner.of(user), connection.pk
    if whose == "another's":
        owner = Owner("org:1")
    elif whose == "nobody's":
        pk = uuid.uuid4()
    else:
        connection.disconnect()
    before = len(scripted.asked("/revoke"))

    with pytest.raises(Connection.DoesNotExist):
        disconnect(owner, pk)
    assert len(scripted.asked("/revoke")) == before


@pytest.mark.compliance("A34", "D50")
@pytest.mark.parametrize("answer", [Answer(503), Answer(cut=-1)], ids=["503", "dropped"])
def test_where_the_provider_does_not_answer_local_use_has_stopped_and_the_token_is_kept_sealed(
    answer, user, scripted, scripted_provider, make_connection
):
    scripted.on("/revoke", answer)

    disconnect(Owner.of(user), make_connection().pk)

    assert Connection.objects.get().sealed_token is None
    assert PendingRevocation.objects.get().open().refresh_token == "refresh-0"


@pytest.mark.compliance("A34", "D50")
def test_while_the_provider_thinks_local_use_has_stopped_and_the_token_is_kept(
    user, scripted, scripted_provider, make_connection
):
    connection = make_connection()
    with disconnecting_while_the_provider_thinks(scripted, Owner.of(user), connection.pk):
        row = Connection.objects.get()
        assert (row.status, row.sealed_token) == ("revoked", None)
        assert PendingRevocation.objects.get().open().refresh_token == "refresh-0"
    assert not PendingRevocation.objects.exists()
    assert len(scripted.asked("/revoke")) == 1


@contextmanager
def disconnecting_while_the_provider_thinks(scripted, owner, pk):
    """Disconnect in another thread; its end is that of the block, in which the provider has been asked."""
    answers = threading.Event()
    scripted.on("/revoke", Answer(200, hold=answers))
    with meanwhile(lambda: disconnect(owner, pk)):
        try:
            scripted.wait_for("/revoke")
            yield
        finally:
            answers.set()


WAY_OUT = 'PendingRevocation.objects.filter(last_error="key_unavailable").delete()'


@pytest.mark.compliance("D43")
def test_a_revocation_whose_key_is_lost_is_dropped_in_the_way_that_the_docs_say(
    user, scripted, scripted_provider, make_connection, configure
):
    scripted.on("/revoke", Answer(503))
    for _ in range(2):
        disconnect(Owner.of(user), make_connection().pk)
    _, other = PendingRevocation.objects.all()
    configure(KEYS=[OTHER_KEY])
    other.seal(Token("access", timezone.now(), "of the key that is there"))
    other.save()
    assert sorted(tried_once_more()) == [("failed", "key_unavailable"), ("unavailable", "http_503")]

    assert WAY_OUT in (DOCS / "keys.md").read_text("utf-8")
    call_command("shell", command=f"from oauth_connect.models import PendingRevocation\n{WAY_OUT}")

    assert tried_once_more() == [("unavailable", "http_503")]
    assert PendingRevocation.objects.get().pk == other.pk, "what a key opens goes on waiting"


def tried_once_more():
    """What ``oauth_prune`` would tell: it exits with 1 for either."""
    PendingRevocation.objects.update(next_attempt_at=timezone.now())
    return [(tried.outcome, tried.code) for tried in revoke_due()]


def test_the_signal_says_which_connection_ended(user, scripted_provider, make_connection):
    heard = []

    def receiver(sender, connection, **extra):
        heard.append((connection.pk, connection.status))

    connection = make_connection()
    signals.disconnected.connect(receiver)
    try:
        disconnect(Owner.of(user), connection.pk)
    finally:
        signals.disconnected.disconnect(receiver)
    assert heard == [(connection.pk, "revoked")]
