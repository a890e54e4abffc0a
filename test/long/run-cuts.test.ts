import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { request } from 'undici'
import type { Run } from '../../plugins/runs/index.ts'
import { startPostgres, temporaryFolder } from '../database.ts'
import { skipWithout } from '../programs.ts'
import { Chromium } from './chromium.ts'
import { startCuttingProxy } from './cutting-proxy.ts'
import { RunProcess } from './run-processes.ts'
import { scaled, scaledTimeout } from './scale.ts'

// A kept file through connections that break: each program resumes, and what it has at the end is the file.

t.setTimeout(scaledTimeout(900_000))

const postgres = await startPostgres(t, { rows: 0 })
const web = new RunProcess(t, 'web', postgres.url)
const worker = new RunProcess(t, 'worker', postgres.url)
await Promise.all([web.start(), worker.start()])
const folder = await temporaryFolder(t)

async function makeRun(salt: string): Promise<Required<Run> & { result: NonNullable<Run['result']> }> {
  const made = await request(`${web.url}/reports/numbers/runs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ count: 100_000, salt })
  })
  const { id } = (await made.body.json()) as Run
  for (;;) {
    const { body } = await request(`${web.url}/runs/${id}`, { headers: { prefer: 'wait=30' } })
    const run = (await body.json()) as Run
    if (run.state === 'succeeded') return run as never
    if (run.state === 'failed') throw new Error(JSON.stringify(run.error))
  }
}

/** @returns its exit status */
function runProgram(program: string, args: string[]): Promise<number> {
  return new Promise((resolve) => {
    execFile(program, args, { cwd: folder }, (error) =>
      resolve(error === null ? 0 : Number(error.code ?? -1))
    )
  })
}

async function sha256Of(file: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(file))
    .digest('hex')
}

const run = await makeRun('cuts')
const { href, bytes, sha256 } = run.result

/** Arguments that go on with what there is. */
const programs: Record<string, (url: string, file: string) => string[]> = {
  curl: (url, file) => ['-sS', '-f', '-C', '-', '-o', file, url],
  wget: (url, file) => ['-q', '-c', '-t', '1', '-O', file, url],
  aria2c: (url, file) => [
    '-q',
    '-c',
    '-x4',
    '-s4',
    '-k1M',
    '-m',
    '1',
    '--allow-overwrite=true',
    '-o',
    file,
    url
  ]
}

const goal = scaled(60)

/** Has files downloaded through connections that are cut, until enough have been, and compares each. */
async function downloadThroughCuts(
  t: Test,
  download: (url: string) => Promise<{ file: string; attempts: number }>
): Promise<void> {
  let left = goal
  const proxy = await startCuttingProxy(t, web.url, () =>
    left-- > 0 ? Math.ceil(Math.random() * bytes * 0.4) : undefined
  )
  while (proxy.cuts < goal) {
    const { file, attempts } = await download(`${proxy.url}${href}`)
    if (left <= 0 && proxy.cuts < goal) left = goal - proxy.cuts
    t.equal(await sha256Of(file), sha256, `${attempts} attempts, ${proxy.cuts} cuts`)
    await rm(file)
  }
}

for (const [program, argsOf] of Object.entries(programs)) {
  t.test(
    `${program} goes on after each cut`,
    { skip: skipWithout(program, program, '--version') },
    async (t) => {
      let rounds = 0
      await downloadThroughCuts(t, async (url) => {
        const name = `${program}-${rounds++}.csv`
        let attempts = 1
        while ((await runProgram(program, argsOf(url, name))) !== 0) {
          if (++attempts > 2 * goal + 20) throw new Error(`${program} does not come to an end`)
        }
        return { file: join(folder, name), attempts }
      })
    }
  )
}

t.test(
  'Chromium goes on after each cut',
  { skip: skipWithout('Chromium (chromium)', 'chromium', '--version') },
  async (t) => {
    const downloads = await temporaryFolder(t)
    const chromium = await Chromium.start(t, downloads)
    await chromium.open('chrome://downloads')
    let rounds = 0
    await downloadThroughCuts(t, async (url) => {
      // What it has, it takes from its cache.
      const name = await chromium.download(`${url}?${rounds++}`)
      let attempts = 1
      // The protocol tells no more of a download that is resumed. It has its name when it is whole.
      while (!(await readdir(downloads)).includes(name)) {
        await chromium.resumeDownload()
        if (++attempts > 1000) throw new Error('Chromium does not come to an end')
      }
      return { file: join(downloads, name), attempts }
    })
  }
)

t.test('what another run has is not taken for the rest', async (t: Test) => {
  const file = join(folder, 'part.csv')
  const proxy = await startCuttingProxy(t, web.url, () => Math.floor(bytes / 2))
  t.not(await runProgram('curl', ['-sS', '-f', '-o', file, `${proxy.url}${href}`]), 0)
  const part = await readFile(file)
  t.ok(part.length > 0 && part.length < bytes)
  await request(`${web.url}/runs/${run.id}`, { method: 'DELETE' })
  const again = await makeRun('cuts')
  t.not(again.result.href, href, 'its file has another URL')
  for (const args of [['-f'], []]) {
    t.not(
      await runProgram('curl', ['-sS', ...args, '-C', '-', '-o', file, `${web.url}${href}`]),
      0,
      `curl ${args}`
    )
    t.strictSame(await readFile(file), part, 'and nothing is added')
  }
})
