import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream, createWriteStream } from 'node:fs'
import { rm, stat } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'

// node run.ts [server] [file]: has a report made, waits for it, and downloads its file, however often that breaks.

const [server = 'http://localhost:3000', file = 'cargoes.csv'] = process.argv.slice(2)
const longestWait = 30
const attempts = 10

async function ask(path: string, options: RequestInit = {}): Promise<any> {
  const response = await fetch(new URL(path, server), options)
  const answer: any = await response.json()
  if (!response.ok) throw new Error(`${response.status}: ${answer.message}`)
  return answer
}

async function makeRun(report: string, parameters: object): Promise<any> {
  let run = await ask(`/reports/${report}/runs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(parameters)
  })
  while (run.state === 'queued' || run.state === 'running') {
    console.log(`${run.state}: ${run.progress.rows} rows, ${run.progress.bytes} bytes`)
    run = await ask(`/runs/${run.id}`, { headers: { prefer: `wait=${longestWait}` } })
  }
  if (run.state !== 'succeeded') throw new Error(`the run ${run.state}: ${run.error.message}`)
  return run
}

/** Takes what is not in the file yet. Rejects where the body breaks. */
async function takeRest({ href, sha256 }: { href: string; sha256: string }): Promise<void> {
  const have = await stat(file).then(
    ({ size }) => size,
    () => 0
  )
  // With this If-Range the reply is a part of the same file, or else a whole one.
  const headers = have > 0 ? { range: `bytes=${have}-`, 'if-range': `"${sha256}"` } : undefined
  const response = await fetch(new URL(href, server), headers && { headers })
  if (!response.ok || response.body === null) throw new Error(`${response.status} of ${href}`)
  await pipeline(response.body, createWriteStream(file, { flags: response.status === 206 ? 'a' : 'w' }))
}

async function download(result: { href: string; bytes: number; sha256: string }): Promise<void> {
  await rm(file, { force: true })
  for (let attempt = 1; ; attempt++) {
    try {
      await takeRest(result)
      break
    } catch (error) {
      if (attempt === attempts) throw error
      console.log(`the download broke (${(error as Error).message}): again`)
    }
  }
  const hash = createHash('sha256')
  const input = createReadStream(file).pipe(hash)
  await once(input, 'finish')
  if (hash.digest('hex') !== result.sha256) throw new Error('the file is not the one of the run')
}

const { result } = await makeRun('cargoes', { commodity: 'Tea' })
await download(result)
console.log(`${file}: ${result.rows} rows, ${result.bytes} bytes, sha256 ${result.sha256}`)
