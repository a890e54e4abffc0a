import { setTimeout as sleep } from 'node:timers/promises'
import { download, startProbe } from '../clients.ts'
import type { Measure } from '../measuring.ts'
import { exportUrl, type Server, startNode } from '../servers.ts'
import { mixed } from '../shapes.ts'

/** What the plugin and its exports cost a JSON route, and a server's start. */

const latency: Measure = {
  name: 'json: latency',
  async *run(bench) {
    await using servers = new AsyncDisposableStack()
    const start = async (way: string) => {
      const server = servers.use(await startNode('server.ts'))
      const report = exportUrl(server, way, mixed, 150_000)
      await download(report)
      return async () => {
        const probe = await startProbe(`${server.url}/json`, 2)
        await Promise.all(Array.from({ length: 8 }, () => download(report)))
        return (await probe.stop()).p99
      }
    }
    const { ours, usual } = await bench.medians({
      ours: await start('reply.csv'),
      usual: await start('the usual pipeline')
    })
    const what = "a JSON route's p99 while 8 exports run at full speed"
    const detail = `${ours.toFixed(2)} ms and ${usual.toFixed(2)} ms`
    yield { what, value: ours, unit: ' ms', goal: { atMost: 10 }, detail }
    yield {
      what: `${what}, against the usual pipeline's`,
      value: ours / usual,
      unit: 'x',
      goal: { atMost: 0.1 },
      detail
    }
  }
}

const firstByte: Measure = {
  name: 'json: first byte',
  async *run(bench) {
    await using server = await startNode('server.ts')
    const time = async (url: string) => (await download(url)).firstByte * 1000
    const { json, ours } = await bench.medians(
      {
        json: () => time(`${server.url}/json`),
        ours: () => time(exportUrl(server, 'reply.csv', mixed, 1000))
      },
      51
    )
    yield {
      what: 'time to first byte, reply.csv less a JSON route',
      value: ours - json,
      unit: ' ms',
      goal: { atMost: 2 },
      detail: `${ours.toFixed(2)} ms and ${json.toFixed(2)} ms`
    }
  }
}

const startUp: Measure = {
  name: 'json: start-up',
  async *run(bench) {
    const time = async (...args: string[]) => {
      await using server = await startNode('small-server.ts', args)
      return server.startUp
    }
    const medians = await bench.medians({ without: () => time(), with: () => time('--plugin') }, 15)
    yield {
      what: "a server's start-up, with the plugin less without it",
      value: medians.with - medians.without,
      unit: ' ms',
      goal: { atMost: 30 },
      detail: `${medians.with.toFixed(0)} ms and ${medians.without.toFixed(0)} ms`
    }
  }
}

const plain: Measure = {
  name: 'json: plain',
  async *run(bench) {
    await using without = await startNode('small-server.ts')
    await using registered = await startNode('small-server.ts', ['--plugin'])
    const time = async ({ url }: Server) => {
      const probe = await startProbe(`${url}/json`, 0)
      await sleep(1000)
      return (await probe.stop()).median
    }
    const times = await bench.times({ without: () => time(without), with: () => time(registered) })
    yield {
      what: 'a JSON route, requests/s with the plugin registered against without it',
      value: times.without / times.with,
      unit: 'x',
      // The same, as far as this can be measured.
      goal: { atLeast: 0.95 },
      detail: `medians of ${times.with.toFixed(3)} ms and ${times.without.toFixed(3)} ms`
    }
  }
}

export default [latency, firstByte, startUp, plain]
