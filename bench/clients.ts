import { type ChildProcess, execFile, fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Latencies } from './prober.ts'
import type { Requested } from './requester.ts'
import type { Served } from './slow-clients.ts'

/** Clients, each in a process of its own: none takes time from a server's. */

const run = promisify(execFile)

export interface Download {
  seconds: number
  firstByte: number
  bytes: number
}

const curlArguments = ['-sS', '--fail', '--globoff', '-o', '/dev/null']

/** By curl's own clock. The body goes to /dev/null. */
export async function download(url: string, ...options: string[]): Promise<Download> {
  const { stdout } = await run('curl', [
    ...curlArguments,
    ...options,
    '-w',
    '%{time_total} %{time_starttransfer} %{size_download}',
    url
  ])
  const [seconds, firstByte, bytes] = stdout.split(' ').map(Number) as [number, number, number]
  return { seconds, firstByte, bytes }
}

export interface Probe {
  stop(): Promise<Latencies>
}

/**
 * Asks for something small on one connection, one request after the other.
 * @param pause milliseconds between the starts of two requests
 */
export async function startProbe(url: string, pause: number): Promise<Probe> {
  const child = fork(new URL('./prober.ts', import.meta.url), [url, String(pause)])
  await answer(child)
  return {
    stop() {
      child.send('stop')
      return answer(child)
    }
  }
}

/** Clients that read at a pace, all at once. */
export async function slowClients(url: string, count: number, bytesPerSecond: number): Promise<Served> {
  const args = [url, String(count), String(bytesPerSecond)]
  return answer(fork(new URL('./slow-clients.ts', import.meta.url), args))
}

/**
 * Asks on each of so many connections for the same again and again, after half a second of which nothing is measured.
 * @param milliseconds that are measured
 */
export async function request(url: string, connections: number, milliseconds: number): Promise<Requested> {
  const child = fork(new URL('./requester.ts', import.meta.url), [url, String(connections)])
  await answer(child)
  await sleep(500)
  child.send('start')
  await sleep(milliseconds)
  child.send('stop')
  return answer(child)
}

async function answer<T>(child: ChildProcess): Promise<T> {
  const [message] = await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(() => {
      throw new Error('a client ended without an answer')
    })
  ])
  return message
}
