// Lets a PDS, the firehose consumer and the worker run together, and compares what the accounts of the PDS have written
// with the stream and with the AppView's tables. See ../pds.sh, which calls it.
//
//   node run.mjs FIREHOSE_WORKER      with REDIS_URL and DATABASE_URL in the environment, and the tables there

import { TestNetworkNoAppView } from '@atproto/dev-env'

import { compareRows, compareStream } from './compare.mjs'
import { live } from './life.mjs'
import { Pipeline } from './pipeline.mjs'

const network = await TestNetworkNoAppView.create({})
const relay = network.pds.url.replace('http', 'ws')
const pipeline = new Pipeline(process.argv[2], relay)
let failed = true
try {
  pipeline.start()
  const killer = pipeline.killAtRandom()
  const world = await live(network.pds.url, network.pds.adminAuth())
  const kills = await killer.stop()
  const seq = await network.pds.ctx.sequencer.curr()
  await pipeline.drained(seq)
  const stops = await pipeline.stop()
  console.log(`${world.accounts.length} accounts, ${world.records.size} records, seq ${seq}, ${kills} times kill -9`)
  const faults = [...stops, ...(await compareStream(world, seq)), ...(await compareRows(world))]
  faults.slice(0, 40).forEach((fault) => console.log(`WRONG: ${fault}`))
  failed = faults.length > 0
  console.log(failed ? `FAILED: ${faults.length} differences` : 'OK')
} catch (error) {
  console.error(error)
  console.error(pipeline.logs())
} finally {
  pipeline.kill()
  await network.close()
}
process.exit(failed ? 1 : 0)
