"""A producer with a transactional id fails at once, in words that point at the setting: there are no transactions."""

import time

import pytest
from confluent_kafka import KafkaException, Producer
from harness import java, wire

pytestmark = pytest.mark.ours("Kafka has transactions")

# Either client tries again for a minute after an error that it takes for passing.
AT_ONCE_SECONDS = 10


@pytest.mark.client("java")
def test_java_fails_at_once(server):
    took_ms, outcome = java.program("Transactional", server.bootstrap, "payments").split(None, 1)
    assert int(took_ms) < AT_ONCE_SECONDS * 1000
    assert "TransactionalIdAuthorizationException" in outcome and "Transactional Id" in outcome
    assert 'transactional_id="payments"' in server.log_text() and "leave its transactional.id out" in server.log_text()


@pytest.mark.client("confluent-kafka")
def test_librdkafka_fails_at_once_and_for_good(server):
    producer = Producer({"bootstrap.servers": server.bootstrap, "transactional.id": "payments", "log_level": 2})
    begun = time.monotonic()
    with pytest.raises(KafkaException) as caught:
        producer.init_transactions(60)
    error = caught.value.args[0]
    assert time.monotonic() - begun < AT_ONCE_SECONDS
    assert error.code() == wire.TRANSACTIONAL_ID_AUTHORIZATION_FAILED and error.fatal() and not error.retriable()
    assert "Transactional Id authorization failed" in error.str()


def test_the_answers(server):
    with server.connect() as raw:
        for name, expected in [("payments", wire.TRANSACTIONAL_ID_AUTHORIZATION_FAILED), ("", wire.INVALID_REQUEST)]:
            reader = raw.request(wire.INIT_PRODUCER_ID, 1, wire.string(name) + wire.i32(60_000))
            reader.i32()
            assert (reader.i16(), reader.i64(), reader.i16()) == (expected, -1, -1)
        assert raw.init_producer_id()[1] == 0
