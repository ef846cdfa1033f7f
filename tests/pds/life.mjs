// What the accounts of the PDS do, by its HTTP API alone.

import { randomBytes } from 'node:crypto'

const N_ACCOUNTS = 12

/** An API of the PDS, as one account or none. */
class Api {
  constructor(url, authorization) {
    Object.assign(this, { url, authorization })
  }

  async call(method, nsid, { query, json, bytes, type } = {}) {
    const url = new URL(`/xrpc/${nsid}`, this.url)
    Object.entries(query ?? {}).forEach(([name, value]) => url.searchParams.set(name, value))
    const headers = {}
    if (this.authorization) headers.authorization = this.authorization
    if (json) headers['content-type'] = 'application/json'
    if (bytes) headers['content-type'] = type
    const response = await fetch(url, { method, headers, body: bytes ?? (json && JSON.stringify(json)) })
    const text = await response.text()
    if (!response.ok) throw new Error(`${nsid}: ${response.status} ${text}`)
    return text ? JSON.parse(text) : undefined
  }

  get(nsid, query) {
    return this.call('GET', nsid, { query })
  }

  post(nsid, json) {
    return this.call('POST', nsid, { json })
  }
}

class Account extends Api {
  static async create(url, handle) {
    const json = { handle, email: `${handle}@example.com`, password: `password of ${handle}` }
    const made = await new Api(url).post('com.atproto.server.createAccount', json)
    const account = new Account(url, `Bearer ${made.accessJwt}`)
    return Object.assign(account, { did: made.did, handle, status: null })
  }

  /** Creates a record and returns its strong reference. */
  async create(collection, record, rkey) {
    const made = await this.post('com.atproto.repo.createRecord', this.write(collection, record, { rkey }))
    return { uri: made.uri, cid: made.cid }
  }

  put(collection, rkey, record) {
    return this.post('com.atproto.repo.putRecord', this.write(collection, record, { rkey }))
  }

  write(collection, record, more) {
    // Collections without a lexicon at the PDS cannot be validated by it.
    const validate = collection.startsWith('app.bsky.') ? undefined : false
    return { repo: this.did, collection, record: { $type: collection, ...record }, validate, ...more }
  }

  delete({ uri }) {
    const [collection, rkey] = uri.split('/').slice(3)
    return this.post('com.atproto.repo.deleteRecord', { repo: this.did, collection, rkey })
  }

  /** Many writes in one commit. */
  apply(writes) {
    return this.post('com.atproto.repo.applyWrites', { repo: this.did, writes, validate: false })
  }

  async upload(bytes, type) {
    return (await this.call('POST', 'com.atproto.repo.uploadBlob', { bytes, type })).blob
  }

  async records() {
    const { collections } = await this.get('com.atproto.repo.describeRepo', { repo: this.did })
    const lists = await Promise.all(collections.map((collection) => this.recordsOf(collection)))
    return lists.flat()
  }

  async recordsOf(collection) {
    const records = []
    let cursor
    do {
      const query = { repo: this.did, collection, limit: 100, ...(cursor && { cursor }) }
      const page = await this.get('com.atproto.repo.listRecords', query)
      records.push(...page.records)
      cursor = page.cursor
    } while (cursor)
    return records
  }
}

/** Lives, and returns the accounts and, by URI, the records that they have at the end. */
export async function live(url, adminAuthorization) {
  const admin = new Api(url, adminAuthorization)
  const accounts = []
  for (let i = 0; i < N_ACCOUNTS; i += 1) accounts.push(await Account.create(url, `account${i}.test`))
  for (const account of accounts) await profile(account)
  const posts = await write(accounts)
  await respond(accounts, posts)
  await curate(accounts, posts)
  await custom(accounts[0])
  await many(accounts[1], posts)
  await changeMinds(accounts, posts)
  await identities(accounts)
  const records = new Map()
  for (const account of accounts) {
    for (const record of await account.records()) records.set(record.uri, record)
  }
  await statuses(accounts, admin)
  return { accounts, records }
}

async function profile(account) {
  const avatar = await account.upload(randomBytes(2000), 'image/png')
  const record = { displayName: `Name of ${account.handle} "\\ \u0001 \u{1f419}`, description: 'first', avatar }
  await account.put('app.bsky.actor.profile', 'self', record)
  await account.put('app.bsky.actor.profile', 'self', { ...record, description: 'second' })
}

/** Posts of all kinds. */
async function write(accounts) {
  const posts = []
  for (const [i, account] of accounts.entries()) {
    const root = await account.create('app.bsky.feed.post', {
      text: `post ${i}\nwith "quotes", a tab\t, ünïcödé and \u{1f9ff}`,
      langs: ['en', 'pt-BR'],
      tags: ['one', 'two'],
      createdAt: now(),
    })
    const image = await account.upload(randomBytes(30_000), 'image/jpeg')
    const picture = await account.create('app.bsky.feed.post', {
      text: 'a picture and a link',
      embed: { $type: 'app.bsky.embed.images', images: [{ image, alt: 'noise', aspectRatio: { width: 4, height: 3 } }] },
      facets: [
        { index: { byteStart: 0, byteEnd: 1 }, features: [{ $type: 'app.bsky.richtext.facet#link', uri: 'https://example.com/' }] },
      ],
      createdAt: now(),
    })
    const parent = posts.at(-1) ?? root
    const reply = await account.create('app.bsky.feed.post', {
      text: 'a reply',
      reply: { root: posts[0] ?? root, parent },
      createdAt: now(),
    })
    const quote = await account.create('app.bsky.feed.post', {
      text: 'a quote',
      embed: { $type: 'app.bsky.embed.record', record: parent },
      createdAt: now(),
    })
    posts.push(root, picture, reply, quote)
  }
  return posts
}

async function respond(accounts, posts) {
  for (const [i, account] of accounts.entries()) {
    for (const subject of posts.filter((_, n) => (n + i) % 3 === 0)) {
      await account.create('app.bsky.feed.like', { subject, createdAt: now() })
    }
    for (const subject of posts.filter((_, n) => (n + i) % 11 === 0)) {
      await account.create('app.bsky.feed.repost', { subject, createdAt: now() })
    }
    for (const other of accounts.filter((_, n) => n !== i && (n * i) % 2 === 0)) {
      await account.create('app.bsky.graph.follow', { subject: other.did, createdAt: now() })
    }
  }
  const [first, , , last] = accounts
  await first.create('app.bsky.graph.block', { subject: last.did, createdAt: now() })
}

/** Lists, packs, feeds and gates. */
async function curate(accounts, posts) {
  const [owner] = accounts
  const list = await owner.create('app.bsky.graph.list', {
    name: 'a list',
    purpose: 'app.bsky.graph.defs#curatelist',
    description: 'of accounts',
    createdAt: now(),
  })
  for (const { did } of accounts) {
    await owner.create('app.bsky.graph.listitem', { list: list.uri, subject: did, createdAt: now() })
  }
  await owner.create('app.bsky.graph.starterpack', { name: 'a pack', list: list.uri, createdAt: now() })
  await owner.create('app.bsky.graph.listblock', { subject: list.uri, createdAt: now() })
  await owner.create('app.bsky.feed.generator', { did: owner.did, displayName: 'a feed', createdAt: now() }, 'feed')
  const rkey = posts[0].uri.split('/').at(-1)
  const rule = { $type: 'app.bsky.feed.threadgate#listRule', list: list.uri }
  await owner.create('app.bsky.feed.threadgate', { post: posts[0].uri, allow: [rule], createdAt: now() }, rkey)
  const disable = { $type: 'app.bsky.feed.postgate#disableRule' }
  await owner.create('app.bsky.feed.postgate', { post: posts[0].uri, embeddingRules: [disable], createdAt: now() }, rkey)
}

/** Records that the PDS has no lexicon for: all that the data model allows. */
async function custom(account) {
  const { uri, cid } = await account.create('org.example.everything', { createdAt: now() })
  await account.create('org.example.everything', {
    createdAt: now(),
    null: null,
    numbers: [0, -1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER],
    nested: { a: [{ b: [[], {}] }], '': 'empty key', longer: true, 'ключ': false },
    link: { $link: cid },
    bytes: { $bytes: randomBytes(100).toString('base64').replaceAll('=', '') },
    blob: await account.upload(randomBytes(100), 'application/octet-stream'),
    text: '\u0001\u001f\u007f\u2028"\\/\u{10ffff}',
    uri,
  })
}

/** Commits with many ops, and with ops that undo each other. */
async function many(account, posts) {
  const collection = 'app.bsky.feed.post'
  const creates = Array.from({ length: 150 }, (_, n) => ({
    $type: 'com.atproto.repo.applyWrites#create',
    collection,
    rkey: recordKey(n),
    value: { $type: collection, text: `one of many, ${n}`, createdAt: now() },
  }))
  await account.apply(creates)
  const like = { $type: 'app.bsky.feed.like', subject: posts[0], createdAt: now() }
  const liked = await account.create('app.bsky.feed.like', { subject: posts[1], createdAt: now() })
  await account.apply([
    { $type: 'com.atproto.repo.applyWrites#delete', collection: 'app.bsky.feed.like', rkey: liked.uri.split('/').at(-1) },
    { $type: 'com.atproto.repo.applyWrites#create', collection: 'app.bsky.feed.like', value: { ...like, subject: posts[1] } },
    ...creates.slice(0, 50).map(({ rkey }) => ({ $type: 'com.atproto.repo.applyWrites#delete', collection, rkey })),
    ...creates.slice(50, 60).map(({ rkey, value }) => ({
      $type: 'com.atproto.repo.applyWrites#update',
      collection,
      rkey,
      value: { ...value, text: 'changed' },
    })),
  ])
}

/** A record key of the form that posts have, for each number below 1024. */
function recordKey(n) {
  const digits = '234567abcdefghijklmnopqrstuvwxyz'
  return `3many222222${digits[n >> 5]}${digits[n & 31]}`
}

/** Deletes and likes that come again. */
async function changeMinds(accounts, posts) {
  for (const account of accounts.slice(0, 4)) {
    const [first, second] = await account.recordsOf('app.bsky.feed.like')
    await account.delete(first)
    await account.create('app.bsky.feed.like', { subject: first.value.subject, createdAt: now() })
    await account.delete(second)
    const [follow] = await account.recordsOf('app.bsky.graph.follow')
    if (follow) await account.delete(follow)
  }
  await accounts[5].delete(posts[5 * 4 + 1])
  await accounts[6].delete(posts[6 * 4])
}

async function identities(accounts) {
  for (const account of accounts.slice(2, 5)) {
    const handle = account.handle.replace('account', 'renamed')
    await account.post('com.atproto.identity.updateHandle', { handle })
    account.handle = handle
  }
}

/** What ends accounts, for a while or for good. The AppView's tables have no column for it, the stream does. */
async function statuses(accounts, admin) {
  const [back, away, down, gone] = accounts.slice(-4)
  await back.post('com.atproto.server.deactivateAccount', {})
  await back.post('com.atproto.server.activateAccount')
  await away.post('com.atproto.server.deactivateAccount', {})
  await admin.post('com.atproto.admin.updateSubjectStatus', {
    subject: { $type: 'com.atproto.admin.defs#repoRef', did: down.did },
    takedown: { applied: true, ref: 'test' },
  })
  await admin.post('com.atproto.admin.deleteAccount', { did: gone.did })
  Object.assign(away, { status: 'deactivated' })
  Object.assign(down, { status: 'takendown' })
  Object.assign(gone, { status: 'deleted' })
}

function now() {
  return new Date().toISOString()
}
