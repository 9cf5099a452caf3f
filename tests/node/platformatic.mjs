// @platformatic/kafka behind host.mjs. Its consumer is a stream: a message is taken from it once the partition is known
// to be this member's, and is handed on in the next poll.
//
// The stream goes on through rebalances, and a message of before may come out of it afterwards, although what was not
// committed is fetched again. An application that wants no record read twice therefore takes nothing while a rebalance
// is on, and afterwards what was fetched since the partition became its own. So does this one where "commit_on_revoke" is
// asked for; and it commits before it takes. (What was fetched of a partition that stays is not fetched again, unless
// something is committed: whoever dropped it would never see it.)
import { setTimeout as sleep } from 'node:timers/promises'
import { Inbox, readRecords, require, serve, slices } from './host.mjs'

const { Admin, Consumer, Producer, MessagesStreamModes, MessagesStreamFallbackModes } = require('@platformatic/kafka')

const PROTOCOLS = { roundrobin: { name: 'roundrobin', version: 1 }, cooperative: { name: 'cooperative-sticky', version: 1 } }

function options(settings) {
  // Servers come and go here: a client asks again soon, and for ever.
  return { clientId: 'platformatic', bootstrapBrokers: [settings['bootstrap.servers']], retries: true, retryDelay: 100, strict: true }
}

class Member {
  #inbox = new Inbox()
  // The offset behind what was taken: "topic partition" → {topic, partition, offset, leaderEpoch}.
  #positions = new Map()
  // The generation in which a partition became this member's, which it has been since.
  #since = new Map()
  #rebalance = null
  #failure = null

  constructor({ settings, commit_on_revoke: commitFirst }) {
    this.commitFirst = commitFirst
    this.cooperative = settings.assignor === 'cooperative'
    this.consumer = new Consumer({
      ...options(settings),
      groupId: settings.group,
      ...(settings.instance ? { groupInstanceId: settings.instance } : {}),
      protocols: [PROTOCOLS[settings.assignor] ?? PROTOCOLS.roundrobin],
      sessionTimeout: Number(settings.session_ms),
      rebalanceTimeout: 60_000,
      heartbeatInterval: Number(settings.heartbeat_ms),
      metadataMaxAge: Number(settings.metadata_ms),
      maxWaitTime: 100,
      autocommit: false,
    })
    this.consumer.on('consumer:group:rebalance', () => this.#begin())
    this.consumer.on('consumer:group:join', ({ assignments }) => this.#join(assignments))
    this.consumer.on('error', error => (this.#failure = error))
  }

  #begin() {
    this.#rebalance ??= Promise.withResolvers()
    // A cooperative member keeps what it has until it is told which partitions to give up.
    if (!this.cooperative) this.#inbox.revoked([...this.#inbox.owned.values()])
  }

  #join(assignments) {
    const now = assignments.flatMap(({ topic, partitions }) => partitions.map(p => [topic, p]))
    const [before, after] = [this.#inbox.owned, new Set(now.map(String))]
    this.#inbox.revoked([...before].filter(([name]) => !after.has(name)).map(([, partition]) => partition))
    this.#inbox.assigned(now.filter(partition => !this.#inbox.owned.has(String(partition))))
    this.#keep(after)
    if (!this.commitFirst) {
      // What was not committed is fetched again.
      this.#inbox.forget()
      this.#positions.clear()
    }
    this.#rebalance?.resolve()
    this.#rebalance = null
  }

  #keep(names) {
    for (const name of this.#positions.keys()) if (!names.has(name)) this.#positions.delete(name)
    this.#since = new Map([...names].map(name => [name, this.#since.get(name) ?? this.consumer.generationId]))
  }

  async subscribe({ topics }) {
    const { COMMITTED } = MessagesStreamModes
    const { EARLIEST } = MessagesStreamFallbackModes
    // Ends when the group is joined; meanwhile polls go on.
    this.reading = this.consumer
      .consume({ topics, mode: COMMITTED, fallbackMode: EARLIEST })
      .then(stream => this.#read(stream))
      .catch(error => (this.#failure = error))
    return this.#answer([])
  }

  async #read(stream) {
    this.stream = stream
    for await (const message of stream) {
      const slice = [message]
      for (let more; slice.length < 1_000 && (more = stream.read()) !== null; ) slice.push(more)
      while (this.#inbox.full) await sleep(10)
      while (this.#rebalance) await this.#rebalance.promise
      this.#inbox.put(this.commitFirst ? await this.#take(slice) : slice)
    }
  }

  /** Those of the messages that are this member's to read, committed. */
  async #take(messages) {
    const taken = messages.filter(message => this.#continues(message))
    const offsets = new Map(taken.map(behind))
    for (const [name, position] of offsets) this.#positions.set(name, position)
    if (offsets.size > 0) await this.consumer.commit({ offsets: [...offsets.values()] })
    return taken
  }

  #continues(message) {
    const [name, next] = behind(message)
    if (!this.#inbox.owned.has(name)) return false
    const known = this.#positions.get(name)
    const own = message.metadata.consumer.generationId >= this.#since.get(name)
    const wanted = known ? message.offset >= known.offset : own
    if (wanted) this.#positions.set(name, next)
    return wanted
  }

  async poll() {
    return this.#answer(await this.#inbox.take())
  }

  #answer(messages) {
    if (this.#failure) throw this.#failure
    if (!this.commitFirst) for (const message of messages) this.#positions.set(...behind(message))
    return { records: messages.map(record), events: this.#inbox.events() }
  }

  /** There is no metadata in a commit of this client. */
  async commit({ offsets }) {
    const wanted = offsets.map(([topic, partition, offset]) => ({ topic, partition, offset: BigInt(offset), leaderEpoch: -1 }))
    const list = offsets.length > 0 ? wanted : [...this.#positions.values()]
    if (list.length > 0) await this.consumer.commit({ offsets: list })
    return this.#answer([])
  }

  async committed({ partitions }) {
    const topics = Map.groupBy(partitions, ([topic]) => topic)
    const asked = [...topics].map(([topic, list]) => ({ topic, partitions: list.map(([, p]) => p) }))
    const found = await this.consumer.listCommittedOffsets({ topics: asked })
    const committed = partitions.map(([topic, p]) => [topic, p, Number(found.get(topic)?.[p] ?? -1), null])
    return { ...this.#answer([]), committed: committed.filter(([, , offset]) => offset >= 0) }
  }

  async close() {
    // What is being committed counts as read.
    await this.stream?.close()
    await this.reading
    await this.consumer.close(true)
    const left = []
    for (let more = await this.#inbox.take(); more.length > 0; more = await this.#inbox.take()) left.push(...more)
    return { records: this.commitFirst ? left.map(record) : [], events: this.#inbox.events() }
  }
}

/** The position behind a message, with its name. */
function behind({ topic, partition, offset, leaderEpoch }) {
  return [String([topic, partition]), { topic, partition, offset: offset + 1n, leaderEpoch }]
}

function record({ partition, offset, timestamp, key, value, headerEntries }) {
  return { partition, offset, timestamp, key, value, headers: headerEntries }
}

class Writer {
  constructor({ settings }) {
    this.producer = new Producer({ ...options(settings), compression: settings.codec, idempotent: settings.idempotent === 'true' })
  }

  /** Each slice is one request; its offsets must be those that the records say. */
  async produce({ topic, file }) {
    for (const slice of slices(readRecords(file), 3_000)) {
      const messages = slice.map(({ key, value, partition, timestamp, headers }) => ({
        ...{ topic, key, value, partition, timestamp },
        headers: new Map(headers.map(([name, content]) => [Buffer.from(name), content])),
      }))
      const { offsets } = await this.producer.send({ messages, acks: -1 })
      for (const { partition, offset: got } of offsets) {
        const { offset } = slice.find(one => one.partition === partition)
        if (got !== offset) throw new Error(`partition ${partition} got offset ${got}, not ${offset}`)
      }
    }
  }

  close() {
    return this.producer.close()
  }
}

/** Operations of the admin client, as tests/java/src/DrivenAdmin names them. */
function admin(settings) {
  // What is not there is asked for again, too: a few times is enough.
  const client = new Admin({ ...options(settings), retries: 5 })
  const one = map => [...map.values()][0]
  return {
    create_topic: ({ name, partitions }) => client.createTopics({ topics: [name], partitions, replicas: 1 }).then(() => null),
    add_partitions: ({ name, partitions }) => client.createPartitions({ topics: [{ name, count: partitions }] }),
    delete_topic: ({ name }) => client.deleteTopics({ topics: [name] }),
    list_groups: async () => [...(await client.listGroups()).keys()],
    async describe_group({ name }) {
      const group = one(await client.describeGroups({ groups: [name] }))
      return { state: group.state, members: [...group.members.values()].map(m => [m.id, m.groupInstanceId ?? '', owned(m)]) }
    },
    delete_group: ({ name }) => client.deleteGroups({ groups: [name] }),
    async list_offsets({ name }) {
      const [group] = await client.listConsumerGroupOffsets({ groups: [name] })
      const rows = group.topics.flatMap(({ name: topic, partitions }) => partitions.map(p => [topic, p.partitionIndex, Number(p.committedOffset)]))
      return rows.filter(([, , offset]) => offset >= 0)
    },
    alter_offsets: ({ name, offsets }) => client.alterConsumerGroupOffsets({ groupId: name, topics: byTopic(offsets) }),
    async delete_offsets({ name, partitions }) {
      const topics = [...Map.groupBy(partitions, ([topic]) => topic)].map(([topic, list]) => ({ name: topic, partitionIndexes: list.map(([, p]) => p) }))
      await client.deleteConsumerGroupOffsets({ groupId: name, topics })
    },
    close: () => client.close(),
  }
}

/** The partitions of a member, `[topic, partition]`. */
function owned(member) {
  return [...(member.assignments?.values() ?? [])].flatMap(({ topic, partitions }) => partitions.map(p => [topic, p]))
}

function byTopic(offsets) {
  const grouped = Map.groupBy(offsets, ([topic]) => topic)
  return [...grouped].map(([name, rows]) => ({ name, partitionOffsets: rows.map(([, partition, offset]) => ({ partition, offset: BigInt(offset) })) }))
}

serve({
  consumer: request => new Member(request),
  producer: request => new Writer(request),
  admin: ({ settings }) => admin(settings),
})
