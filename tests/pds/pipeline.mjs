// The consumer and the worker between the PDS and PostgreSQL: started, killed, waited for.

import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { constants } from 'node:os'

import { Redis } from 'ioredis'

const STREAM = 'firehose:events'
const CURSOR = 'firehose:python_cursor'

export class Pipeline {
  constructor(binary, relay) {
    this.redis = new Redis(process.env.REDIS_URL)
    const env = { ...process.env, RELAY_URL: relay, FIREHOSE_START: 'oldest', CONSUMER_ID: 'pds' }
    this.consumer = new Program('consumer', binary, ['consume'], env)
    this.worker = new Program('worker', binary, [], env)
  }

  start() {
    this.consumer.start()
    this.worker.start()
  }

  /** Kills one of the two and starts it again, over and over. `stop` says how often. */
  killAtRandom() {
    let kills = 0
    let isStopping = false
    const killing = (async () => {
      while (!isStopping) {
        await sleep(500 + Math.random() * 2000)
        const program = Math.random() < 0.5 ? this.consumer : this.worker
        await program.kill()
        program.start()
        kills += 1
      }
    })()
    const stop = async () => {
      isStopping = true
      await killing
      return kills
    }
    return { stop }
  }

  /** Waits until everything up to the seq is in the stream and nothing of it is left to apply. */
  async drained(seq) {
    const deadline = Date.now() + 120_000
    for (;;) {
      const cursor = await this.redis.get(CURSOR)
      const groups = await this.redis.xinfo('GROUPS', STREAM).catch(() => [])
      const group = members(groups[0] ?? [])
      if (Number(cursor) >= seq && group.lag === 0 && group.pending === 0) return
      if (Date.now() > deadline) {
        throw new Error(`after 120 s: cursor ${cursor} of ${seq}, group ${JSON.stringify(group)}`)
      }
      await sleep(50)
    }
  }

  /** Stops both as systemd does. Returns what is wrong with that. */
  async stop() {
    const codes = await Promise.all([this.consumer.stop(), this.worker.stop()])
    this.redis.disconnect()
    return codes.flatMap((code) => (code === 0 ? [] : [`exit status ${code} at the stop\n${this.logs()}`]))
  }

  kill() {
    this.redis.disconnect()
    void this.consumer.kill()
    void this.worker.kill()
  }

  logs() {
    return [this.consumer, this.worker].map((program) => `${program.name}:\n${program.log.slice(-4000)}`).join('\n')
  }
}

class Program {
  constructor(name, binary, args, env) {
    Object.assign(this, { name, binary, args, env, log: '' })
  }

  start() {
    this.process = spawn(this.binary, this.args, { env: this.env, stdio: ['ignore', 'ignore', 'pipe'] })
    this.process.stderr.on('data', (text) => (this.log += text))
    this.ended = new Promise((resolve) => this.process.on('exit', (code) => resolve(code)))
  }

  async kill() {
    this.process?.kill('SIGKILL')
    await this.ended
  }

  async stop() {
    // It may have been started a moment ago, and a signal without a handler would end it.
    while (this.process.exitCode === null && !this.handlesSigterm()) await sleep(10)
    this.process.kill('SIGTERM')
    return this.ended
  }

  handlesSigterm() {
    const status = readFileSync(`/proc/${this.process.pid}/status`, 'utf8')
    const caught = BigInt(`0x${status.match(/^SigCgt:\s*([0-9a-f]+)$/m)[1]}`)
    return (caught & (1n << BigInt(constants.signals.SIGTERM - 1))) !== 0n
  }
}

/** Field and value in turn, as Redis answers. */
function members(list) {
  const pairs = []
  for (let i = 0; i + 1 < list.length; i += 2) pairs.push([list[i], list[i + 1]])
  return Object.fromEntries(pairs)
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
