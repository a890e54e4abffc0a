import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { type AddressInfo, connect as connectSocket, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TLSSocket, type TLSSocketOptions } from 'node:tls'
import type { Test } from 'tap'

export interface RelayOptions {
  /** A UNIX socket to listen on, instead of a port. */
  path?: string
  /** Refuses what does not ask for TLS: 'direct' begins with it, without asking. */
  tls?: 'asked' | 'direct'
  certificate?: TLSSocketOptions
  /** Whether a connection that begins so is closed, and not passed on. */
  refuses?: (beginning: Buffer) => boolean
  /** Told each answer of the database after it has been passed on. */
  onAnswer?: (answer: Buffer, app: Socket) => void
}

export interface Relay {
  port: number
  /** Connection string of the database behind it. */
  url: string
  /** Open connections, the oldest first. */
  sockets: Socket[]
  /** What each connection began with, once TLS is off. */
  beginnings: Buffer[]
  /** Takes connections from now on, and passes nothing on. */
  swallow(): void
  /** Keeps what the database says from now on, and passes it on in one piece at its end. */
  hold(): void
}

/** Of 16 bytes, as hexadecimal digits. */
export const cancelRequest = /^0000001004d2162e[0-9a-f]{16}$/

const sslRequest = Buffer.from('0000000804d2162f', 'hex')

/** A way to a database that sees what is sent. */
export async function relayed(t: Test, url: string, options: RelayOptions = {}): Promise<Relay> {
  const { hostname, port } = new URL(url)
  const sockets: Socket[] = []
  const beginnings: Buffer[] = []

  let holding = false
  const pass = (app: Socket): void => {
    const held: Buffer[] = []
    const server = connectSocket(Number(port), hostname)
    for (const socket of [app, server]) socket.on('error', () => {})
    app.once('data', (beginning: Buffer) => {
      beginnings.push(beginning)
      if (options.refuses?.(beginning)) return app.destroy()
      server.write(beginning)
      app.pipe(server)
    })
    app.on('close', () => server.destroy())
    server.on('close', () => app.end(Buffer.concat(held)))
    server.on('data', (answer: Buffer) => {
      if (holding) return held.push(answer)
      app.write(answer)
      options.onAnswer?.(answer, app)
    })
  }

  let swallowing = false
  const relay = createServer(async (app) => {
    sockets.push(app)
    if (swallowing) return
    app.on('error', () => {})
    if (options.tls === undefined) return pass(app)
    if (options.tls === 'asked') {
      const [request] = (await once(app, 'data')) as [Buffer]
      if (!request.equals(sslRequest)) return app.destroy()
      app.write('S')
    }
    const settings = { ...options.certificate, isServer: true, ALPNProtocols: ['postgresql'] }
    pass(new TLSSocket(app, settings))
  })
  relay.listen(options.path ?? { port: 0, host: '127.0.0.1' })
  await once(relay, 'listening')
  t.teardown(() => relay.close())
  const address = new URL(url)
  const listening = options.path === undefined ? (relay.address() as AddressInfo).port : 0
  address.host = `127.0.0.1:${listening}`
  return {
    port: listening,
    url: address.href,
    sockets,
    beginnings,
    swallow: () => {
      swallowing = true
    },
    hold: () => {
      holding = true
    }
  }
}

/** A certificate for localhost, signed by itself. */
export async function makeCertificate(t: Test): Promise<{ key: Buffer; cert: Buffer }> {
  const folder = await mkdtemp(join(tmpdir(), 'csv-export-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost', '-days', '1']
  const names = ['-addext', 'subjectAltName=DNS:localhost']
  execFileSync('openssl', [...request, ...names, '-keyout', key, '-out', cert], { stdio: 'ignore' })
  return { key: await readFile(key), cert: await readFile(cert) }
}
