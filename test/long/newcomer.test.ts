import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import { run } from '../packed.ts'
import { copyCheckout } from './checkout.ts'

t.setTimeout(600_000)

const root = join(import.meta.dirname, '../..')
/** Nobody's own: what it may read and write is what everybody may. */
const stranger = { uid: 65_534, gid: 65_534 }
const administrator = { uid: 0, gid: 0 }

const skip = process.getuid?.() !== 0 && 'root alone can act as somebody else'
t.test('the two commands, to one who has only Node and npm', { skip }, async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'newcomer-'))
  t.teardown(() => rm(home, { recursive: true }))
  const checkout = join(home, 'with blank é')
  await copyCheckout(checkout)
  const temporary = join(home, 'tmp')
  await mkdir(temporary)
  await give(home, stranger)
  const locked = join(home, 'locked')
  await mkdir(locked, { mode: 0o700 })

  // Without what the runner of this test has put there.
  const path = (process.env.PATH ?? '').split(delimiter).filter((folder) => !folder.startsWith(root))
  const env = {
    PATH: [locked, ...path].join(delimiter),
    HOME: home,
    TMPDIR: temporary,
    PORT: '0'
  }

  function npm(args: string[], user: { uid: number; gid: number }) {
    // What the test runner hooks into each child is taken out again.
    const child = spawn('env', ['-u', 'NODE_OPTIONS', 'npm', ...args], {
      cwd: checkout,
      env,
      ...user,
      stdio: ['ignore', 'pipe', 'pipe']
    })
    const output: string[] = []
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk) => output.push(String(chunk)))
    const closed = once(child, 'close').then(([code]) => ({ code, output: output.join('') }))
    return Object.assign(child, { closed })
  }

  /** Ends the server as soon as it listens. */
  async function start(user: { uid: number; gid: number }) {
    const child = npm(['start'], user)
    for await (const line of createInterface({ input: child.stdout })) {
      const pid = /"pid":(\d+).*Server listening/.exec(line)?.[1]
      if (pid) process.kill(Number(pid), 'SIGINT')
    }
    return child.closed
  }

  await t.test('npm ci', async (t) => {
    const { code, output } = await npm(['ci'], stranger).closed
    t.equal(code === 0 ? '' : output, '')
  })

  await t.test('npm start', async (t) => {
    t.match((await start(stranger)).output, /Server listening/)
  })

  await t.test('npm test, of what depends on the place and the user', async (t) => {
    const files = ['imports', 'docs', 'examples', 'package', 'routes/commands', '**/embedded-postgres']
    const args = files.map((file) => `test/${file}.test.ts`)
    const { code, output } = await npm(['exec', '--', 'tap', 'run', ...args], stranger).closed
    t.equal(code === 0 ? '' : output, '')
    t.same(await readdir(temporary), [], 'nothing is left in the temporary folder')
  })

  await t.test('npm start with the data of another user says what to do', async (t) => {
    await give(join(checkout, '.postgres'), administrator)
    const { code, output } = await start(stranger)
    t.not(code, 0)
    const lines = output.trim().split('\n')
    t.match(
      lines.filter((line) => line && !line.startsWith('> ')),
      [/\.postgres belongs to another user: remove it/]
    )
  })

  await t.test('npm start of root, where nobody else may enter', async (t) => {
    await chmod(home, 0o700)
    await give(home, administrator)
    t.match((await start(administrator)).output, /Server listening/)
    t.same(await readdir(temporary), [], 'nothing is left in the temporary folder')
  })
})

async function give(path: string, { uid, gid }: { uid: number; gid: number }): Promise<void> {
  await run('chown', ['-R', `${uid}:${gid}`, path], { cwd: root })
}
