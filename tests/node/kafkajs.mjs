// kafkajs behind host.mjs. Its consumer calls the application with batches; a batch is handed on in the next poll.
//
// kafkajs tells of a rebalance when it has begun, without waiting for anybody: an application that wants no record read
// twice commits a batch before it takes it. So does this one where "commit_on_revoke" is asked for.
import zlib from 'node:zlib'
import { promisify } from 'node:util'
import { setTimeout as sleep } from 'node:timers/promises'
import { Inbox, readRecords, require, serve, slices } from './host.mjs'

const { AssignerProtocol, Kafka, CompressionTypes, CompressionCodecs, PartitionAssigners, logLevel } = require('kafkajs')
const Lz4 = require('@2l/kafkajs-lz4')

// kafkajs brings gzip alone. Zstandard is Node's own.
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = new Lz4().codec
const zstd = { compress: promisify(zlib.zstdCompress), decompress: promisify(zlib.zstdDecompress) }
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: encoder => zstd.compress(encoder.buffer),
  decompress: bytes => zstd.decompress(bytes),
})

const CODECS = { none: 'None', gzip: 'GZIP', snappy: 'Snappy', lz4: 'LZ4', zstd: 'ZSTD' }

// Servers come and go here: a client asks again soon, and for long.
const RETRY = { initialRetryTime: 100, maxRetryTime: 500, retries: 200 }

function client(settings) {
  return new Kafka({ clientId: 'kafkajs', brokers: [settings['bootstrap.servers']], logLevel: logLevel.NOTHING, retry: RETRY })
}

class Member {
  #inbox = new Inbox()
  #positions = new Map()
  #failure = null
  #admin = null

  constructor({ settings, commit_on_revoke: commitFirst }) {
    this.settings = settings
    this.commitFirst = commitFirst
    this.kafka = client(settings)
    this.heartbeatMs = Number(settings.heartbeat_ms)
    this.consumer = this.kafka.consumer({
      groupId: settings.group,
      partitionAssigners: [PartitionAssigners.roundRobin],
      sessionTimeout: Number(settings.session_ms),
      heartbeatInterval: this.heartbeatMs,
      metadataMaxAge: Number(settings.metadata_ms),
      // Heartbeats are sent between fetches.
      maxWaitTimeInMs: 100,
    })
    const { GROUP_JOIN, REBALANCING, CRASH } = this.consumer.events
    this.consumer.on(REBALANCING, () => this.#lose())
    this.consumer.on(GROUP_JOIN, ({ payload }) => this.#join(payload.memberAssignment))
    this.consumer.on(CRASH, ({ payload }) => {
      if (!payload.restart) this.#failure = payload.error
    })
  }

  #lose() {
    this.#inbox.revoked([...this.#inbox.owned.values()])
    this.#positions.clear()
    // What was not committed will be fetched again, by whoever has it then.
    if (!this.commitFirst) this.#inbox.forget()
  }

  #join(assignment) {
    this.#lose()
    this.#inbox.assigned(Object.entries(assignment).flatMap(([topic, partitions]) => partitions.map(p => [topic, p])))
  }

  async subscribe({ topics }) {
    await this.consumer.connect()
    await this.consumer.subscribe({ topics, fromBeginning: true })
    // Ends when the group is joined; meanwhile polls go on.
    this.consumer.run({ autoCommit: false, eachBatch: batch => this.#receive(batch) }).catch(error => (this.#failure = error))
    return this.#answer([])
  }

  async #receive({ batch, heartbeat, commitOffsetsIfNecessary, isRunning, isStale }) {
    while (this.#inbox.full && isRunning()) {
      await heartbeat()
      await sleep(this.heartbeatMs)
    }
    const { topic, partition } = batch
    if (!isRunning() || isStale()) throw new Error('this batch is not wanted any more')
    if (this.commitFirst) {
      const offset = String(BigInt(batch.lastOffset()) + 1n)
      await commitOffsetsIfNecessary({ topics: [{ topic, partitions: [{ partition, offset }] }] })
    }
    this.#inbox.put(batch.messages.map(message => ({ topic, partition, ...message, headers: pairs(message.headers) })))
  }

  async poll() {
    return this.#answer(await this.#inbox.take())
  }

  #answer(records) {
    if (this.#failure) throw this.#failure
    for (const { topic, partition, offset } of records) this.#positions.set(`${topic} ${partition}`, { topic, partition, offset: BigInt(offset) + 1n })
    return { records, events: this.#inbox.events() }
  }

  async commit({ offsets }) {
    const read = [...this.#positions.values()].map(p => ({ ...p, offset: String(p.offset) }))
    const wanted = offsets.map(([topic, partition, offset, metadata]) => ({ topic, partition, offset: String(offset), metadata }))
    const list = offsets.length > 0 ? wanted : read
    if (list.length > 0) await this.consumer.commitOffsets(list)
    return this.#answer([])
  }

  /** The consumer cannot tell; the admin client can. */
  async committed({ partitions }) {
    this.#admin ??= await admin(this.settings)
    const found = await this.#admin.committed({ name: this.settings.group })
    const asked = new Set(partitions.map(String))
    return { ...this.#answer([]), committed: found.filter(([topic, partition]) => asked.has(String([topic, partition]))) }
  }

  seek({ partitions: [[topic, partition]], offset }) {
    this.consumer.seek({ topic, partition, offset: String(offset) })
    return this.#answer([])
  }

  async close() {
    await this.consumer.disconnect()
    await this.#admin?.close()
    const left = []
    for (let more = await this.#inbox.take(); more.length > 0; more = await this.#inbox.take()) left.push(...more)
    // What is committed counts as read.
    return { records: this.commitFirst ? left : [], events: this.#inbox.events() }
  }
}

/** kafkajs tells headers as an object: of equal names it makes an array. */
function pairs(headers) {
  return Object.entries(headers).flatMap(([name, value]) => (Array.isArray(value) ? value : [value]).map(one => [name, one]))
}

function object(headers) {
  const all = {}
  for (const [name, value] of headers) (all[name] ??= []).push(value)
  return all
}

class Writer {
  constructor({ settings }) {
    this.settings = settings
    this.producer = client(settings).producer({ idempotent: settings.idempotent === 'true', maxInFlightRequests: 1 })
  }

  /** Each slice is one request; its offsets must be those that the records say. */
  async produce({ topic, file }) {
    await this.producer.connect()
    const compression = CompressionTypes[CODECS[this.settings.codec]]
    for (const slice of slices(readRecords(file), 3_000)) {
      const messages = slice.map(({ key, value, partition, timestamp, headers }) => ({ key, value, partition, timestamp: String(timestamp), headers: object(headers) }))
      for (const { partition, baseOffset } of await this.producer.send({ topic, compression, acks: -1, messages })) {
        const { offset } = slice.find(record => record.partition === partition)
        if (BigInt(baseOffset) !== offset) throw new Error(`partition ${partition} got offset ${baseOffset}, not ${offset}`)
      }
    }
  }

  close() {
    return this.producer.disconnect()
  }
}

/** Operations of the admin client, as tests/java/src/DrivenAdmin names them. */
async function admin(settings) {
  // What is not there is asked for again, too: a few times is enough.
  const connected = client(settings).admin({ retry: { ...RETRY, retries: 5 } })
  await connected.connect()
  return {
    async create_topic({ name, partitions }) {
      const made = await connected.createTopics({ topics: [{ topic: name, numPartitions: partitions, replicationFactor: 1 }] })
      // kafkajs alone does not call it an error.
      if (!made) throw new Error('the topic exists already')
    },
    add_partitions: ({ name, partitions }) => connected.createPartitions({ topicPartitions: [{ topic: name, count: partitions }] }),
    delete_topic: ({ name }) => connected.deleteTopics({ topics: [name] }),
    list_groups: async () => (await connected.listGroups()).groups.map(g => g.groupId),
    async describe_group({ name }) {
      const [group] = (await connected.describeGroups([name])).groups
      return { state: group.state, members: group.members.map(m => [m.memberId, '', owned(m)]) }
    },
    delete_group: ({ name }) => connected.deleteGroups([name]),
    list_offsets: async ({ name }) => (await offsets(connected, name)).map(row => row.slice(0, 3)),
    committed: ({ name }) => offsets(connected, name),
    async alter_offsets({ name, offsets: wanted }) {
      for (const [topic, partition, offset] of wanted) {
        await connected.setOffsets({ groupId: name, topic, partitions: [{ partition, offset: String(offset) }] })
      }
    },
    close: () => connected.disconnect(),
  }
}

/** The partitions of a member, `[topic, partition]`. */
function owned(member) {
  const decoded = member.memberAssignment.length > 0 ? AssignerProtocol.MemberAssignment.decode(member.memberAssignment) : null
  return Object.entries(decoded?.assignment ?? {}).flatMap(([topic, list]) => list.map(p => [topic, p]))
}

/** What a group has committed: `[topic, partition, offset, metadata]`. */
async function offsets(connected, group) {
  const found = await connected.fetchOffsets({ groupId: group })
  const rows = found.flatMap(({ topic, partitions }) => partitions.map(p => [topic, p.partition, Number(p.offset), p.metadata ?? '']))
  return rows.filter(([, , offset]) => offset >= 0)
}

serve({
  consumer: request => new Member(request),
  producer: request => new Writer(request),
  admin: ({ settings }) => admin(settings),
})
