"""The admin clients behind one face. What a client does not have is not defined.

    create_topic(name, partitions)   add_partitions(name, total)   delete_topic(name)
    list_groups() -> names           describe_group(name) -> (state, {member: partitions})     delete_group(name)
    list_offsets(group) -> {(topic, partition): offset}    alter_offsets(group, offsets)    delete_offsets(group, partitions)

A refusal is raised as `member.Refused`, in the client's words.
"""

import asyncio

import kafka
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin import NewPartitions as AioNewPartitions
from aiokafka.admin import NewTopic as AioNewTopic
from aiokafka.errors import KafkaError as AioKafkaError
from aiokafka.errors import for_code
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError, NoError

from . import driven, node, rdkafka, remote
from .member import Refused
from .raw import DescribedMember


class Confluent:
    def __init__(self, server):
        self.admin = AdminClient({"bootstrap.servers": server.bootstrap})

    def one(self, futures):
        """The value of the only future."""
        (future,) = futures.values()
        try:
            return future.result(30)
        except KafkaException as error:
            raise Refused(str(error)) from error

    def create_topic(self, name, partitions):
        self.one(self.admin.create_topics([NewTopic(name, partitions, 1)]))

    def add_partitions(self, name, total):
        self.one(self.admin.create_partitions([NewPartitions(name, total)]))

    def delete_topic(self, name):
        self.one(self.admin.delete_topics([name]))

    def list_groups(self):
        listed = self.admin.list_consumer_groups().result(30)
        assert not listed.errors, listed.errors
        return {group.group_id for group in listed.valid}

    def describe_group(self, name):
        group = self.one(self.admin.describe_consumer_groups([name]))
        owned = {m.member_id: {(p.topic, p.partition) for p in m.assignment.topic_partitions} for m in group.members}
        return group.state.name.title(), owned

    def delete_group(self, name):
        self.one(self.admin.delete_consumer_groups([name]))

    def list_offsets(self, group):
        found = self.one(self.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))
        return {(p.topic, p.partition): p.offset for p in found.topic_partitions}

    def alter_offsets(self, group, offsets):
        wanted = [TopicPartition(*p, offset) for p, offset in offsets.items()]
        done = self.one(self.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, wanted)]))
        if errors := [p.error for p in done.topic_partitions if p.error]:
            raise Refused(str(errors))

    def close(self):
        pass


class Aiokafka:
    def __init__(self, server):
        self.loop = asyncio.new_event_loop()

        async def begin():
            self.admin = AIOKafkaAdminClient(bootstrap_servers=server.bootstrap)
            await self.admin.start()

        self.run(begin())

    def run(self, work):
        try:
            return self.loop.run_until_complete(asyncio.wait_for(work, 30))
        except AioKafkaError as error:
            raise Refused(repr(error)) from error

    def checked(self, results):
        """Raises the first error code of an answer: the client gives them back as they came."""
        for name, code, *_ in results:
            if code:
                raise Refused(f"{name}: {for_code(code).__name__}")

    def create_topic(self, name, partitions):
        self.checked(self.run(self.admin.create_topics([AioNewTopic(name, partitions, 1)])).topic_errors)

    def add_partitions(self, name, total):
        self.run(self.admin.create_partitions({name: AioNewPartitions(total)}))

    def delete_topic(self, name):
        self.checked(self.run(self.admin.delete_topics([name])).topic_error_codes)

    def list_groups(self):
        return {group[0] for group in self.run(self.admin.list_consumer_groups())}

    def describe_group(self, name):
        (answer,) = self.run(self.admin.describe_consumer_groups([name]))
        ((_, _, state, _, _, members, *_),) = answer.groups
        # (member id, client id, host, metadata, assignment), with the instance id behind the first from version 4 on.
        return state, {m[0]: DescribedMember(None, "", "", b"", m[-1]).partitions() for m in members}

    def list_offsets(self, group):
        found = self.run(self.admin.list_consumer_group_offsets(group))
        return {(p.topic, p.partition): value.offset for p, value in found.items()}

    def close(self):
        self.run(self.admin.close())
        self.loop.close()


class KafkaPython:
    def __init__(self, server):
        self.admin = KafkaAdminClient(bootstrap_servers=server.bootstrap)

    def ask(self, method, *arguments):
        try:
            return method(*arguments)
        except KafkaError as error:
            raise Refused(repr(error)) from error

    def create_topic(self, name, partitions):
        self.ask(self.admin.create_topics, [kafka.admin.NewTopic(name, partitions, 1)])

    def add_partitions(self, name, total):
        self.ask(self.admin.create_partitions, {name: kafka.admin.NewPartitions(total)})

    def delete_topic(self, name):
        self.ask(self.admin.delete_topics, [name])

    def list_groups(self):
        return {name for name, _ in self.ask(self.admin.list_consumer_groups)}

    def describe_group(self, name):
        (group,) = self.ask(self.admin.describe_consumer_groups, [name])
        owned = {}
        for member in group.members:
            listed = member.member_assignment.assignment if member.member_assignment else []
            owned[member.member_id] = {(topic, p) for topic, partitions in listed for p in partitions}
        return group.state, owned

    def delete_group(self, name):
        ((_, error),) = self.ask(self.admin.delete_consumer_groups, [name])
        if error is not NoError:
            raise Refused(error.__name__)

    def list_offsets(self, group):
        found = self.ask(self.admin.list_consumer_group_offsets, group)
        return {(p.topic, p.partition): value.offset for p, value in found.items()}

    def close(self):
        self.admin.close()


class Java(driven.Admin, driven.ListsOffsets, driven.AltersOffsets, driven.DeletesOffsets):
    host = remote.HOST


class Rdkafka(driven.Admin):
    host = rdkafka.HOST


class Kafkajs(driven.Admin, driven.ListsOffsets, driven.AltersOffsets):
    host = node.KAFKAJS


class Platformatic(driven.Admin, driven.ListsOffsets, driven.AltersOffsets, driven.DeletesOffsets):
    host = node.PLATFORMATIC


ADMINS = {
    "confluent-kafka": Confluent,
    "aiokafka": Aiokafka,
    "kafka-python": KafkaPython,
    "java": Java,
    "rdkafka": Rdkafka,
    "kafkajs": Kafkajs,
    "platformatic": Platformatic,
}
