// What the accounts have written, against the entries of the stream and the rows of the tables. Returns the differences.

import { isDeepStrictEqual } from 'node:util'

import { Redis } from 'ioredis'
import pg from 'pg'

/** Plays the stream: the records that it leaves, and the last status and handle of each account. */
export async function compareStream(world, lastSeq) {
  const redis = new Redis(process.env.REDIS_URL)
  const entries = await redis.xrange('firehose:events', '-', '+')
  redis.disconnect()
  const faults = []
  const records = new Map()
  const accounts = new Map()
  let before = 0
  for (const [, [, type, , data, , seq]] of entries) {
    if (Number(seq) <= before || Number(seq) > lastSeq) faults.push(`seq ${seq} follows ${before}`)
    before = Number(seq)
    play(type, JSON.parse(data), records, accounts)
  }
  faults.push(...differences('record', world.records, records, (record) => [record.cid, record.value]))
  for (const { did, handle, status } of world.accounts) {
    const account = accounts.get(did) ?? {}
    // A deleted account's handle is nobody's.
    const expected = { active: status === null, ...(status && { status }) }
    faults.push(...unequal(`account ${did}`, expected, account.account))
    if (status !== 'deleted') faults.push(...unequal(`handle of ${did}`, handle, account.handle))
  }
  return faults
}

function play(type, data, records, accounts) {
  if (type === 'commit') {
    for (const { action, path, cid, record } of data.ops) {
      const uri = `at://${data.repo}/${path}`
      if (action === 'delete') records.delete(uri)
      else records.set(uri, { cid, value: record })
    }
    return
  }
  const account = accounts.get(data.did) ?? {}
  accounts.set(data.did, account)
  const { did, ...rest } = data
  if (type === 'account') account.account = rest
  else account.handle = rest.handle
}

/** By collection: the table, its key, and the columns of a record's row. */
const TABLES = {
  'app.bsky.feed.post': [
    'posts',
    (uri, record) => ({
      author_did: repo(uri),
      text: record.text,
      langs: record.langs ?? null,
      parent_uri: record.reply?.parent.uri ?? null,
      root_uri: record.reply?.root.uri ?? null,
      embed: record.embed ?? null,
      facets: record.facets ?? null,
      tags: record.tags ?? [],
    }),
  ],
  'app.bsky.feed.like': ['likes', (uri, record) => ({ user_did: repo(uri), post_uri: record.subject.uri })],
  'app.bsky.feed.repost': ['reposts', (uri, record) => ({ user_did: repo(uri), post_uri: record.subject.uri })],
  'app.bsky.graph.follow': ['follows', (uri, record) => ({ follower_did: repo(uri), following_did: record.subject })],
  'app.bsky.graph.block': ['blocks', (uri, record) => ({ blocker_did: repo(uri), blocked_did: record.subject })],
  'app.bsky.graph.list': [
    'lists',
    (uri, record) => ({ creator_did: repo(uri), name: record.name, purpose: record.purpose, description: record.description }),
  ],
  'app.bsky.graph.listitem': ['list_items', (_, record) => ({ list_uri: record.list, subject_did: record.subject })],
  'app.bsky.graph.listblock': ['list_blocks', (_, record) => ({ list_uri: record.subject })],
  'app.bsky.graph.starterpack': ['starter_packs', (_, record) => ({ name: record.name, list_uri: record.list })],
  'app.bsky.feed.generator': ['feed_generators', (_, record) => ({ did: record.did, display_name: record.displayName })],
  'org.example.everything': [
    'generic_records',
    (uri, record) => ({ author_did: repo(uri), record_type: record.$type, record }),
  ],
}

const COUNTS = {
  like_count: ['app.bsky.feed.like', (record) => record.subject.uri],
  repost_count: ['app.bsky.feed.repost', (record) => record.subject.uri],
  reply_count: ['app.bsky.feed.post', (record) => record.reply?.parent.uri],
  quote_count: ['app.bsky.feed.post', (record) => record.embed?.record?.uri],
}

/** The rows, the counters of posts, and the users. */
export async function compareRows(world) {
  const client = new pg.Client({ connectionString: process.env.DATABASE_URL })
  await client.connect()
  const rowsOf = async (table, key) => {
    const { rows } = await client.query(`SELECT to_jsonb(t) AS row FROM ${table} AS t`)
    return new Map(rows.map(({ row }) => [row[key], row]))
  }
  const faults = []
  for (const [collection, [table, columns]] of Object.entries(TABLES)) {
    const expected = expectedRows(world, collection, columns)
    faults.push(...differences(table, expected, await rowsOf(table, 'uri'), (row) => row))
  }
  faults.push(...compareGates(world, await rowsOf('thread_gates', 'post_uri'), await rowsOf('post_gates', 'post_uri')))
  faults.push(...compareCounts(world, await rowsOf('post_aggregations', 'post_uri')))
  faults.push(...compareUsers(world, await rowsOf('users', 'did')))
  await client.end()
  return faults
}

function expectedRows(world, collection, columns) {
  const rows = new Map()
  for (const { uri, cid, value } of recordsOf(world, collection)) {
    const created_at = value.createdAt.replace('Z', '').replace(/\.?0+$/, '')
    rows.set(uri, { ...columns(uri, value), created_at, ...(HAS_CID.has(collection) && { cid }) })
  }
  return rows
}

const HAS_CID = new Set([
  'app.bsky.feed.post',
  'app.bsky.graph.list',
  'app.bsky.graph.listitem',
  'app.bsky.graph.starterpack',
  'app.bsky.feed.generator',
  'org.example.everything',
])

function compareGates(world, threadGates, postGates) {
  const uris = (collection) => recordsOf(world, collection).map(({ value }) => value.post)
  return [
    ...unequal('thread gates', uris('app.bsky.feed.threadgate'), [...threadGates.keys()]),
    ...unequal('post gates', uris('app.bsky.feed.postgate'), [...postGates.keys()]),
  ]
}

function compareCounts(world, aggregations) {
  const faults = []
  for (const [column, [collection, subject]] of Object.entries(COUNTS)) {
    const expected = new Map()
    for (const { value } of recordsOf(world, collection)) {
      const uri = subject(value)
      if (uri) expected.set(uri, (expected.get(uri) ?? 0) + 1)
    }
    for (const { uri } of recordsOf(world, 'app.bsky.feed.post')) {
      faults.push(...unequal(`${column} of ${uri}`, expected.get(uri) ?? 0, aggregations.get(uri)?.[column]))
    }
  }
  return faults
}

function compareUsers(world, users) {
  return world.accounts.flatMap(({ did, handle, status }) => {
    const { value } = world.records.get(`at://${did}/app.bsky.actor.profile/self`)
    const expected = {
      ...(status !== 'deleted' && { handle }),
      display_name: value.displayName,
      description: value.description,
      avatar_url: value.avatar.ref.$link,
    }
    return unequal(`user ${did}`, expected, part(users.get(did), expected))
  })
}

function recordsOf(world, collection) {
  return [...world.records.values()].filter(({ uri }) => uri.split('/')[3] === collection)
}

function repo(uri) {
  return uri.split('/')[2]
}

/** The members of a row that are expected. */
function part(row, expected) {
  return row && Object.fromEntries(Object.keys(expected).map((key) => [key, row[key]]))
}

function differences(what, expected, found, picture) {
  const faults = []
  for (const [key, value] of expected) {
    const other = found.get(key)
    const [left, right] = [picture(value), other && picture(other)]
    faults.push(...unequal(`${what} ${key}`, left, Array.isArray(left) ? right : part(right, left)))
  }
  for (const key of found.keys()) {
    if (!expected.has(key)) faults.push(`${what} ${key} is too many`)
  }
  return faults
}

function unequal(what, expected, found) {
  if (isDeepStrictEqual(expected, found)) return []
  return [`${what}: ${JSON.stringify(found)}, not ${JSON.stringify(expected)}`]
}
