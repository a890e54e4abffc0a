import { download } from '../clients.ts'
import type { Measure } from '../measuring.ts'
import { rate } from '../measuring.ts'
import { differences } from '../outputs.ts'
import { exportUrl, startNode } from '../servers.ts'
import { mixed, type Shape, shapes } from '../shapes.ts'

const ours = 'reply.csv'
const usual = 'the usual pipeline'
const peers = ['fast-csv', 'papaparse', '@json2csv/node']
/** Not to be beaten: what they cost, to know where we stand. */
const limits = ['csv-stringify, batches joined', 'ready Buffers']

function measure(shape: Shape): Measure {
  const goals = new Map([
    [usual, shape === mixed ? 5 : 3],
    ...peers.map((peer): [string, number] => [peer, shape === mixed ? 2 : 1])
  ])
  return {
    name: `generator: ${shape.name}`,
    async *run(bench) {
      await using servers = new AsyncDisposableStack()
      const runs: Record<string, () => Promise<number>> = {}
      for (const way of [ours, usual, ...peers, ...limits]) {
        // In a server of its own, so that no way pays for another's garbage.
        const server = servers.use(await startNode('server.ts'))
        runs[way] = async () => (await download(exportUrl(server, way, shape))).seconds
        // A real server has served other reports before.
        for (const other of shapes) await download(exportUrl(server, way, other, 5000))
        const sample = (name: string) => exportUrl(server, name, shape, 1000)
        bench.notes.push(...(await differences(`${way}, ${shape.name}`, sample(ours), sample(way))))
      }
      const seconds = await bench.medians(runs)
      for (const [way, time] of Object.entries(seconds)) {
        if (way === ours) continue
        const goal = goals.get(way)
        yield {
          what: `${shape.name}: rows/s of reply.csv against ${way}`,
          value: time / (seconds[ours] as number),
          unit: 'x',
          ...(goal && { goal: { atLeast: goal } }),
          detail: `${rate(shape.rows, seconds[ours] as number)} against ${rate(shape.rows, time)}`
        }
      }
    }
  }
}

export default shapes.map(measure)
