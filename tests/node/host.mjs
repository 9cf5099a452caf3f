// Consumers, admin clients and producers that a test drives from outside, as tests/java/src/GroupHost does: each
// connection to this process is one of them. Owns the conversation and the form of records, and knows no client.
//
// A request is one line of JSON, with the operation's name as "do"; the first one names the kind and brings its settings.
// An answer is the length and bytes of a JSON object, then the length and bytes of a record file (its form is told in
// tests/harness/dataset.py), all lengths four bytes. An error is answered as "error" and "kind". The process prints its
// port, and ends with its standard input.
import net from 'node:net'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'

/** Loads what scripts/install-test-deps.sh has installed. */
export const require = createRequire(new URL('../../.tools/node/', import.meta.url))

/** Listens; `kinds` makes what a connection drives: {kind: request => object}, whose methods are its operations. */
export function serve(kinds) {
  const server = net.createServer({ noDelay: true }, socket => converse(socket, kinds))
  server.listen(0, '127.0.0.1', () => console.log(server.address().port))
  process.stdin.on('end', () => process.exit(0)).resume()
  // What a client throws beside its calls is its own business until a call shows it; the process goes on for the others.
  process.on('unhandledRejection', error => console.error(`unhandled: ${words(error)}`))
  process.on('uncaughtException', error => console.error(`uncaught: ${words(error)}`))
}

async function converse(socket, kinds) {
  let driven = null
  socket.on('error', () => {})
  for await (const request of lines(socket)) {
    try {
      if (driven === null) {
        driven = await kinds[request.do](request)
        send(socket, {}, [])
      } else {
        const value = (await driven[request.do](request)) ?? null
        // Records have a form of their own, behind the rest.
        const records = value?.records ?? []
        if (value?.records) delete value.records
        send(socket, { value }, records)
      }
    } catch (error) {
      send(socket, { kind: kindOf(error), error: words(error) }, [])
    }
  }
  await driven?.close?.({}).catch(error => console.error(`while closing: ${words(error)}`))
}

async function* lines(socket) {
  let rest = ''
  try {
    for await (const chunk of socket.setEncoding('utf8')) {
      const parts = (rest + chunk).split('\n')
      rest = parts.pop()
      for (const part of parts) yield JSON.parse(part)
    }
  } catch (error) {
    if (error.code !== 'ECONNRESET') throw error
  }
}

function send(socket, value, records) {
  const text = Buffer.from(JSON.stringify(value))
  const file = Buffer.concat(records.map(encode))
  socket.write(Buffer.concat([int32(text.length), text, int32(file.length), file]))
}

/** The name of the innermost error: what the server refused, below the client's "gave up after so many tries". */
function kindOf(error) {
  return error.type ?? error.apiId ?? (error.errors?.length ? kindOf(error.errors.at(-1)) : error.cause ? kindOf(error.cause) : error.name)
}

function words(error) {
  const inner = error.errors?.length ? ` (${words(error.errors.at(-1))})` : error.cause ? ` (${words(error.cause)})` : ''
  return `${error.message}${inner}`
}

// ------------------------------------------------------------------------------------------------------- records

function encode({ partition, offset, timestamp, key, value, headers }) {
  const fixed = Buffer.alloc(20)
  fixed.writeInt32BE(partition, 0)
  fixed.writeBigInt64BE(BigInt(offset), 4)
  fixed.writeBigInt64BE(BigInt(timestamp), 12)
  const pairs = headers.flatMap(([name, content]) => [blob(Buffer.from(name)), blob(content)])
  return Buffer.concat([fixed, blob(key), blob(value), int32(headers.length), ...pairs])
}

function int32(value) {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

function blob(bytes) {
  return bytes == null ? int32(-1) : Buffer.concat([int32(bytes.length), bytes])
}

/** The records of a file, each as `encode` takes it; offsets and timestamps are BigInt. */
export function readRecords(path) {
  const data = readFileSync(path)
  const records = []
  let at = 0
  const number = () => data.readInt32BE((at += 4) - 4)
  const wide = () => data.readBigInt64BE((at += 8) - 8)
  const bytes = () => {
    const size = number()
    return size < 0 ? null : data.subarray(at, (at += size))
  }
  while (at < data.length) {
    const record = { partition: number(), offset: wide(), timestamp: wide(), key: bytes(), value: bytes() }
    record.headers = Array.from({ length: number() }, () => [bytes().toString(), bytes()])
    records.push(record)
  }
  return records
}

/** Slices of at most `size`, in order. */
export function* slices(records, size) {
  for (let at = 0; at < records.length; at += size) yield records.slice(at, at + size)
}

// ------------------------------------------------------------------------------------------------------- members

/** What a consumer has read and its application has not yet asked for, and what it was told of partitions. */
export class Inbox {
  #records = []
  #events = []
  #wake = () => {}
  owned = new Map()

  get full() {
    return this.#records.length >= 10_000
  }

  put(records) {
    this.#records.push(...records)
    this.#wake()
  }

  forget() {
    this.#records = []
  }

  /** Waits at most 100 ms for records. */
  async take() {
    if (this.#records.length === 0) {
      await Promise.race([new Promise(resolve => (this.#wake = resolve)), sleep(100)])
    }
    return this.#records.splice(0, 5_000)
  }

  /** Partitions as `[topic, partition]`. */
  assigned(partitions) {
    for (const partition of partitions) this.owned.set(String(partition), partition)
    this.#events.push(['assigned', partitions])
  }

  revoked(partitions) {
    for (const partition of partitions) this.owned.delete(String(partition))
    if (partitions.length > 0) this.#events.push(['revoked', partitions])
  }

  /** All that happened since the last call. */
  events() {
    return this.#events.splice(0)
  }
}
