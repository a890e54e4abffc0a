import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { request } from 'undici'
import type { Run } from '../../plugins/runs/index.ts'
import { startPostgres, temporaryFolder } from '../database.ts'
import { skipWithout } from '../programs.ts'
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

for (const [program, argsOf] of Object.entries(programs)) {
  t.test(
    `${program} goes on after each cut`,
    { skip: skipWithout(program, program, '--version') },
    async (t) => {
      const goal = scaled(60)
      let rounds = 0
      let left = goal
      const proxy = await startCuttingProxy(t, web.url, () =>
        left-- > 0 ? Math.ceil(Math.random() * bytes * 0.4) : undefined
      )
      while (proxy.cuts < goal) {
        const file = join(folder, `${program}-${rounds++}.csv`)
        let attempts = 0
        while (
          (await runProgram(program, argsOf(`${proxy.url}${href}`, file.slice(folder.length + 1)))) !== 0
        ) {
          if (++attempts > 2 * goal + 20) throw new Error(`${program} does not come to an end`)
        }
        if (left <= 0 && proxy.cuts < goal) left = goal - proxy.cuts
        t.equal(await sha256Of(file), sha256, `${attempts} attempts, ${proxy.cuts} cuts`)
        await rm(file)
      }
    }
  )
}

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
