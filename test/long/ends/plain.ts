import { once } from 'node:events'
import { Agent as HttpAgent, get as httpGet } from 'node:http'
import { connect } from 'node:http2'
import { Agent as HttpsAgent, get as httpsGet } from 'node:https'
import { finished } from 'node:stream/promises'
import type { Kept } from './http1.ts'

/** A connection to each server that has had a reply which is no export, and is kept. */
export async function openPlain(origins: Record<string, string>): Promise<Kept[]> {
  const open = ([name, origin]: [string, string]): Promise<Kept> =>
    name.startsWith('http2') ? openHttp2(origin) : openHttp1(origin)
  return Promise.all(Object.entries(origins).map(open))
}

async function openHttp1(origin: string): Promise<Kept> {
  const isTls = origin.startsWith('https:')
  const options = { keepAlive: true, rejectUnauthorized: false }
  const agent = isTls ? new HttpsAgent(options) : new HttpAgent(options)
  const get = isTls ? httpsGet : httpGet
  const [response] = await once(get(`${origin}/plain`, { agent }), 'response')
  await finished(response.resume())
  return agent
}

async function openHttp2(origin: string): Promise<Kept> {
  const session = connect(origin, { rejectUnauthorized: false })
  await finished(session.request({ ':path': '/plain' }).resume())
  return session
}
