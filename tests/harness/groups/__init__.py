"""Consumer groups of real clients behind one face: `member` says what it is, one module for each client adapts it."""

from .aio import Aiokafka
from .confluent import Confluent
from .kcat import Kcat
from .member import Fenced, Joining, Member, Refused
from .node import Kafkajs, Platformatic
from .pure import KafkaPython
from .rdkafka import Rdkafka
from .remote import Java

CLIENTS = {client.name: client for client in (Kcat, Confluent, Rdkafka, Aiokafka, KafkaPython, Java, Kafkajs, Platformatic)}

__all__ = ["CLIENTS", "Fenced", "Joining", "Member", "Refused"]
