import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { skipWithout } from '../programs.ts'

t.setTimeout(480_000)

const folder = new URL('../sources/', import.meta.url)
const root = new URL('../../', import.meta.url)
const skip = skipWithout('MariaDB (mariadb-server)', 'mariadbd', '--version')

async function run(cwd: URL, program: string, ...args: string[]): Promise<{ code: number; output: string }> {
  const child = spawn(program, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
  const [output, errors, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close')
  ])
  return { code, output: output + errors }
}

t.test(
  'the recipes of docs/sources.md are right, and the traps they handle are there',
  { skip },
  async (t) => {
    const installed = await run(folder, 'npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund')
    t.equal(installed.code, 0, installed.output)
    const generated = await run(folder, 'npm', 'run', 'generate')
    t.equal(generated.code, 0, generated.output)
    // The compiler does not start with the loaders of the test runner.
    const types = await run(root, 'env', '-u', 'NODE_OPTIONS', 'npx', 'tsc', '-p', 'test/sources')
    t.equal(types.code, 0, types.output)
    const { code, output } = await run(root, process.execPath, 'test/sources/run.ts')
    t.comment(output)
    t.equal(code, 0, output)
  }
)
