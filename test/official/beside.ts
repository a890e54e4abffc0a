import { EventEmitter, once } from 'node:events'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import csvExport, { type PluginOptions, type Receipt } from '../../plugins/csv-export/index.ts'
import { curl } from '../helper.ts'
import { rowCount, whole } from './exports.ts'

/**
 * A package of this folder's own package.json, without its types: `npm run types` is run where none of them is installed.
 * Fastify is no part of them, so that they find the one that all tests use.
 */
export const official = createRequire(import.meta.url) as {
  (name: string): any
  resolve(name: string): string
}

/** Names of the plugins that have a test: docs/plugins.md has a line for each, and for no other. */
export const tested = new Set<string>()

/** A test of a plugin beside ours. */
export function beside(plugin: string, behaviour: string, ...test: BesideTest): void {
  tested.add(plugin)
  t.test(`${plugin}: ${behaviour}`, ...(test as [() => unknown]))
}

type BesideTest = [{ skip: string | false }, (t: Test) => unknown] | [(t: Test) => unknown]

/** As a server's application is typed once plugins have added to it. */
export type App = FastifyInstance & Record<string, any>

export interface BesideServer {
  app: App
  url: string
  /** The receipt of the next export that ends. */
  receipt(): Promise<Receipt>
}

export interface BesideOptions {
  /** Those of csvExport. */
  defaults?: PluginOptions
  /** Whether the plugin is registered ahead of csvExport, so that its hooks come first. */
  isFirst?: boolean
  /** Those of Fastify. */
  server?: object
}

/** A server with csvExport and another plugin, on a real socket. */
export async function serveBeside(
  t: Test,
  plugins: (app: App) => unknown,
  routes: (app: App) => unknown,
  { defaults, isFirst = false, server }: BesideOptions = {}
): Promise<BesideServer> {
  const receipts = new EventEmitter()
  const app = Fastify({ forceCloseConnections: true, ...server }) as unknown as App
  if (isFirst) await plugins(app)
  await app.register(csvExport, {
    closeGrace: 0,
    onReceipt: (receipt) => receipts.emit('receipt', receipt),
    ...defaults
  })
  if (!isFirst) await plugins(app)
  await routes(app)
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => app.close())
  const { port } = app.server.address() as AddressInfo
  const receipt = async () => (await once(receipts, 'receipt'))[0] as Receipt
  return { app, url: `http://127.0.0.1:${port}`, receipt }
}

/**
 * That the three ends are what they are without the plugin: a whole file byte for byte, coded and not; an early error's own
 * status; a late one's reset, to HTTP/1.0 too, where nothing else shows it. And that receipts say so.
 * @returns a whole reply's headers, and what the early one was
 */
export async function assertEnds(
  t: Test,
  { url, receipt }: BesideServer,
  headers: Record<string, string> = {}
): Promise<{ headers: Headers; early: Response }> {
  const sent: Headers[] = []
  for (const coding of ['identity', 'gzip']) {
    const told = receipt()
    const response = await fetch(`${url}/whole.csv`, { headers: { ...headers, 'accept-encoding': coding } })
    t.equal(response.status, 200)
    t.equal(response.headers.get('content-encoding'), coding === 'identity' ? null : coding)
    t.ok((await response.text()) === whole, `byte for byte, ${coding}`)
    const { id, status, rows, bytes } = await told
    t.same({ status, rows, bytes }, { status: 'complete', rows: rowCount, bytes: Buffer.byteLength(whole) })
    t.equal(response.headers.get('export-id'), id)
    sent.push(response.headers)
  }
  const early = await fetch(`${url}/early.csv`, { headers })
  t.equal(early.status, 404)
  t.match(await early.json(), { message: 'no such report' })
  t.equal(early.headers.get('content-disposition'), null)

  const asHeaders = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`])
  for (const version of ['--http1.1', '--http1.0']) {
    const told = receipt()
    t.match(await curl(version, ...asHeaders, `${url}/late.csv`), { code: 56, body: /^id\n1\n$/ }, version)
    t.match(await told, { status: 'source_failed', rows: 1 })
  }
  return { headers: sent.at(-1) as Headers, early }
}

/** Both orders of registration: hooks run in it. */
export async function bothOrders(t: Test, test: (t: Test, order: { isFirst: boolean }) => Promise<unknown>) {
  for (const isFirst of [true, false]) {
    await t.test(isFirst ? 'registered first' : 'registered behind', (t) => test(t, { isFirst }))
  }
}
